<?php

declare(strict_types=1);

namespace Shop\Catalog;

use Shop\Framework\Connection;
use Shop\Framework\Queue\Handler;

/** A price that was changed for many products at once. */
final class UpdatePrice implements Handler
{
    public function __construct(private readonly Connection $connection)
    {
    }

    public function handle(array $message): void
    {
        $this->connection->rows('UPDATE catalog_product SET price = ? WHERE sku = ?', [$message['price'], $message['sku']]);
    }
}
