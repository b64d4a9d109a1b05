<?php

declare(strict_types=1);

namespace Shop\Catalog\Setup\Patch\Schema;

use Shop\Framework\Connection;
use Shop\Framework\Setup\Patch;

/** The products. */
final class CreateProductTable implements Patch
{
    public function __construct(private readonly Connection $connection)
    {
    }

    public static function getDependencies(): array
    {
        return [];
    }

    public function apply(): void
    {
        $this->connection->rows(<<<'SQL'
            CREATE TABLE IF NOT EXISTS catalog_product (
                id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
                sku VARCHAR(64) NOT NULL UNIQUE,
                name VARCHAR(255) NOT NULL,
                url_key VARCHAR(255) NOT NULL UNIQUE,
                description TEXT NOT NULL DEFAULT '',
                price DECIMAL(10, 2) NOT NULL,
                updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
                INDEX (updated_at)
            ) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4
            SQL);
    }
}
