<?php

declare(strict_types=1);

namespace Shop\Catalog;

use Shop\Framework\Connection;

/** The products, from the table catalog_product. */
class ProductTable implements Products
{
    public function __construct(private readonly Connection $connection, private readonly ProductFactory $products)
    {
    }

    public function rows(): array
    {
        return $this->connection->rows('SELECT id, sku, name, url_key, description, price, quantity FROM catalog_product ORDER BY name, id');
    }

    public function all(): array
    {
        return array_map(fn (array $row): Product => $this->products->create(['id' => (int) $row['id'], 'quantity' => (int) $row['quantity']] + $row), $this->rows());
    }
}
