<?php

declare(strict_types=1);

namespace Shop\Catalog\Setup\Patch\Schema;

use Shop\Framework\Connection;
use Shop\Framework\Setup\Patch;

/** What is done later, by consumers. */
final class CreateQueue implements Patch
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
        $this->connection->rows('CREATE TABLE IF NOT EXISTS queue_message (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, topic_name VARCHAR(255) NOT NULL, body TEXT NOT NULL)');
    }
}
