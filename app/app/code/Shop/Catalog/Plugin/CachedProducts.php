<?php

declare(strict_types=1);

namespace Shop\Catalog\Plugin;

use Shop\Catalog\ProductTable;
use Shop\Framework\Cache;
use Shop\Framework\Connection;

/** Keeps the rows in the cache below a key that any change to the table changes: MariaDB itself keeps updated_at. */
final class CachedProducts
{
    public function __construct(private readonly Cache $cache, private readonly Connection $connection)
    {
    }

    /**
     * @param callable(): list<array<string, mixed>> $proceed
     * @return list<array<string, mixed>>
     */
    public function aroundRows(ProductTable $subject, callable $proceed): array
    {
        $state = $this->connection->rows('SELECT COUNT(*) AS number, MAX(updated_at) AS changed FROM catalog_product')[0];
        return $this->cache->remember("products/{$state['number']}/{$state['changed']}", 600, $proceed(...));
    }
}
