<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Configuration;
use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Folder;
use Shop\Framework\ObjectManager;
use Shop\Framework\Refusal;
use Shop\Framework\Search\Engine;

/** setup:install: writes app/etc/env.php, fills an empty database, makes the first administrator. A second run goes on. */
final class Install extends Command
{
    /** Each option, and the place in app/etc/env.php that it fills; none for those of the administrator. */
    private const OPTIONS = [
        'db-host' => 'db/connection/default/host',
        'db-name' => 'db/connection/default/dbname',
        'db-user' => 'db/connection/default/username',
        'db-password' => 'db/connection/default/password',
        'db-ssl-ca' => 'db/connection/default/driver_options/' . \PDO::MYSQL_ATTR_SSL_CA,
        'key' => 'crypt/key',
        'backend-frontname' => 'backend/frontName',
        'base-url' => 'system/default/web/unsecure/base_url',
        'search-engine' => 'system/default/catalog/search/engine',
        'opensearch-host' => 'system/default/catalog/search/opensearch_server_hostname',
        'opensearch-port' => 'system/default/catalog/search/opensearch_server_port',
        'opensearch-index-prefix' => 'system/default/catalog/search/opensearch_index_prefix',
        'opensearch-enable-auth' => 'system/default/catalog/search/opensearch_enable_auth',
        'opensearch-username' => 'system/default/catalog/search/opensearch_username',
        'opensearch-password' => 'system/default/catalog/search/opensearch_password',
        'admin-user' => '',
        'admin-password' => '',
        'admin-email' => '',
        'admin-firstname' => '',
        'admin-lastname' => '',
    ];
    private const MAY_BE_MISSING = ['opensearch-username', 'opensearch-password', 'db-password', 'db-ssl-ca'];

    public function __construct(private readonly Configuration $configuration, private readonly ObjectManager $objectManager)
    {
    }

    public function options(): array
    {
        return array_map(static fn (): bool => true, self::OPTIONS) + ['use-rewrites' => true, 'db-ssl-verify' => false, 'use-sample-data' => false];
    }

    public function run(Input $input): int
    {
        if ($this->configuration->get('db') !== null) {
            throw new Refusal('app/etc/env.php names a database: setup:install writes that file itself');
        }
        $given = array_map(static fn (string $option): string => $input->all($option)[0] ?? '', array_combine(array_keys(self::OPTIONS), array_keys(self::OPTIONS)));
        $missing = array_diff(array_keys(array_filter($given, static fn (string $value): bool => $value === '')), self::MAY_BE_MISSING);
        if ($missing) {
            throw new Refusal('setup:install needs ' . implode(', ', array_map(static fn (string $option): string => "--$option", $missing)));
        }
        if (strlen($given['admin-password']) < 7 || !preg_match('/[a-z]/i', $given['admin-password']) || !preg_match('/[0-9]/', $given['admin-password'])) {
            throw new Refusal('--admin-password: should have 7 characters or more, letters and digits');
        }
        $this->needWritable();
        foreach (array_filter(self::OPTIONS) as $option => $path) {
            if ($given[$option] !== '' || $option !== 'db-ssl-ca') { // without, the connection is not encrypted
                $this->configuration->write($path, $given[$option]);
            }
        }
        $this->objectManager->get(Engine::class)->ping();
        $this->configuration->write('application/test_data', $input->has('use-sample-data'));
        // what is installed is kept in the database, not in a cache that is not configured yet
        $this->objectManager->get(Upgrade::class)->bringUp();
        $this->administrator($this->objectManager->get(Connection::class), $given);
        $this->configuration->write('install/date', gmdate('D, d M Y H:i:s O'));
        echo "Installed.\n";
        return 0;
    }

    /** As Magento: whatever it is going to write, it wants to be able to write all of this; only what is compiled is passed over. */
    private function needWritable(): void
    {
        $missing = [];
        foreach (['app/etc', 'var', 'pub/media', 'pub/static', 'generated'] as $name) {
            $folder = "{$this->configuration->root}/$name";
            $below = $name === 'generated' ? [] : Folder::files($folder);
            $missing = [...$missing, ...array_filter([$folder, ...$below], static fn (string $path): bool => !is_writable($path))];
        }
        if ($missing) {
            throw new Refusal('Missing write permissions to the following paths: ' . implode(', ', array_slice($missing, 0, 5)));
        }
    }

    /** @param array<string, string> $given */
    private function administrator(Connection $connection, array $given): void
    {
        $connection->rows('CREATE TABLE IF NOT EXISTS admin_user (user_id INT AUTO_INCREMENT PRIMARY KEY, username VARCHAR(40) NOT NULL UNIQUE, password VARCHAR(255) NOT NULL, email VARCHAR(128), firstname VARCHAR(32), lastname VARCHAR(32), otp_secret VARCHAR(64))');
        $connection->rows('REPLACE INTO admin_user (username, password, email, firstname, lastname) VALUES (?, ?, ?, ?, ?)', [$given['admin-user'], password_hash($given['admin-password'], PASSWORD_DEFAULT), $given['admin-email'], $given['admin-firstname'], $given['admin-lastname']]);
    }
}
