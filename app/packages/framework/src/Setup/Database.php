<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Connection;
use Shop\Framework\Di\SourceFile;
use Shop\Framework\Modules;
use Shop\Framework\Refusal;

/** What the code wants to be done to the database, against what setup_module and patch_list say was done. */
final class Database
{
    public function __construct(private readonly Connection $connection, private readonly Modules $modules)
    {
    }

    /** Throws Refusal for a database into which nothing was installed. */
    public function needInstalled(): void
    {
        if (!$this->connection->hasTable('setup_module')) {
            throw new Refusal('the table setup_module does not exist: run setup:install');
        }
    }

    /** @return list<string> a line per thing that is due */
    public function due(): array
    {
        $this->needInstalled();
        $due = array_map(static fn (string $patch): string => "patch $patch", $this->pending());
        foreach (array_diff_assoc($this->wantedVersions(), $this->installedVersions()) as $module => $version) {
            $due[] = "module $module $version";
        }
        return $due;
    }

    /** @return list<class-string<Patch>> in the order in which they are to be applied */
    public function pending(): array
    {
        $done = $this->connection->hasTable('patch_list') ? array_column($this->connection->rows('SELECT patch_name FROM patch_list'), 'patch_name') : [];
        $ordered = [];
        foreach (['Schema', 'Data'] as $kind) {
            foreach ($this->modules->folders() as $folder) {
                foreach (glob("$folder/{Setup,src/Setup}/Patch/$kind/*.php", GLOB_BRACE) ?: [] as $file) {
                    $this->place(SourceFile::classes($file)[0], $ordered);
                }
            }
        }
        return array_values(array_diff(array_keys($ordered), $done));
    }

    public function prepare(): void
    {
        $this->connection->rows('CREATE TABLE IF NOT EXISTS setup_module (module VARCHAR(50) PRIMARY KEY, schema_version VARCHAR(50), data_version VARCHAR(50))');
        $this->connection->rows('CREATE TABLE IF NOT EXISTS patch_list (patch_id INT AUTO_INCREMENT PRIMARY KEY, patch_name VARCHAR(255) NOT NULL UNIQUE)');
        $this->connection->rows('CREATE TABLE IF NOT EXISTS flag (flag_code VARCHAR(255) PRIMARY KEY, flag_data MEDIUMTEXT, last_update TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)');
    }

    public function applied(string $patch): void
    {
        $this->connection->rows('INSERT INTO patch_list (patch_name) VALUES (?)', [$patch]);
    }

    public function recordVersions(): void
    {
        foreach ($this->wantedVersions() as $module => $version) {
            $this->connection->rows('REPLACE INTO setup_module (module, schema_version, data_version) VALUES (?, ?, ?)', [$module, $version, $version]);
        }
    }

    /** @param array<class-string<Patch>, true> $ordered */
    private function place(string $patch, array &$ordered): void
    {
        foreach (isset($ordered[$patch]) ? [] : $patch::getDependencies() as $earlier) {
            $this->place($earlier, $ordered);
        }
        $ordered[$patch] = true;
    }

    /** @return array<string, string> */
    private function wantedVersions(): array
    {
        $versions = [];
        foreach ($this->modules->folders() as $module => $folder) {
            $xml = simplexml_load_file("$folder/etc/module.xml");
            $versions[$module] = (string) ($xml->module['setup_version'] ?? '');
        }
        return array_filter($versions);
    }

    /** @return array<string, string> */
    private function installedVersions(): array
    {
        return $this->connection->hasTable('setup_module') ? array_column($this->connection->rows('SELECT module, data_version FROM setup_module'), 'data_version', 'module') : [];
    }
}
