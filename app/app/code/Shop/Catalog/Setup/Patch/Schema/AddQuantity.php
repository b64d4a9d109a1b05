<?php

declare(strict_types=1);

namespace Shop\Catalog\Setup\Patch\Schema;

use Shop\Framework\Connection;
use Shop\Framework\Setup\Patch;

/** How many there are of a product. */
final class AddQuantity implements Patch
{
    public function __construct(private readonly Connection $connection)
    {
    }

    public static function getDependencies(): array
    {
        return [CreateProductTable::class];
    }

    public function apply(): void
    {
        $this->connection->rows('ALTER TABLE catalog_product ADD COLUMN IF NOT EXISTS quantity INT UNSIGNED NOT NULL DEFAULT 100');
    }
}
