<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Configuration;
use Shop\Framework\ConfigurationHash;
use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;

/** app:config:status (exit 2 when an import is due, 255 when the database is empty) and app:config:import: files to database. */
final class ConfigurationImport extends Command
{
    public function __construct(
        private readonly Configuration $configuration,
        private readonly ConfigurationHash $hash,
        private readonly Connection $connection,
        private readonly Database $database,
    ) {
    }

    public function run(Input $input): int
    {
        if (!$this->connection->hasTable('flag')) {
            fwrite(STDERR, "the table flag does not exist\n");
            return 255;
        }
        $due = $this->hash->imported() !== $this->hash->now();
        if ($input->command === 'app:config:status') {
            echo $due ? "Config files have changed. Run app:config:import.\n" : "Config files are up to date.\n";
            return $due ? 2 : 0;
        }
        if ($due) {
            $this->import();
        }
        echo $due ? "Imported.\n" : "Nothing to import.\n";
        return 0;
    }

    public function import(): void
    {
        $this->database->prepare();
        $this->connection->rows('CREATE TABLE IF NOT EXISTS store (store_id SMALLINT PRIMARY KEY, code VARCHAR(32) NOT NULL UNIQUE, name VARCHAR(255) NOT NULL, is_active TINYINT NOT NULL)');
        $stores = $this->configuration->need('scopes/stores');
        foreach ($stores as $store) {
            $this->connection->rows('REPLACE INTO store (store_id, code, name, is_active) VALUES (?, ?, ?, ?)', [$store['store_id'], $store['code'], $store['name'], $store['is_active']]);
        }
        $codes = array_column($stores, 'code');
        $this->connection->rows('DELETE FROM store WHERE code NOT IN (' . implode(', ', array_fill(0, count($codes), '?')) . ')', $codes);
        $this->connection->rows("REPLACE INTO flag (flag_code, flag_data) VALUES ('config_hash', ?)", [$this->hash->now()]);
    }
}
