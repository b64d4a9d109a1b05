<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The connection to MariaDB, opened when it is first used. */
final class Connection
{
    private ?\PDO $pdo = null;

    public function __construct(private readonly Configuration $configuration)
    {
    }

    /**
     * @param array<int|string, mixed> $values
     * @return list<array<string, mixed>>
     */
    public function rows(string $sql, array $values = []): array
    {
        $statement = $this->pdo()->prepare($sql);
        $statement->execute($values);
        return $statement->columnCount() ? $statement->fetchAll() : [];
    }

    public function hasTable(string $table): bool
    {
        return $this->rows('SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?', [$table]) !== [];
    }

    private function pdo(): \PDO
    {
        if ($this->pdo) {
            return $this->pdo;
        }
        $settings = $this->configuration->need('db/connection/default');
        $host = $settings['host'];
        $place = str_contains($host, '/') ? "unix_socket=$host" : 'host=' . strtr($host, [':' => ';port=']);
        try {
            return $this->pdo = new \PDO("mysql:$place;dbname={$settings['dbname']};charset=utf8mb4", $settings['username'], $settings['password'], ($settings['driver_options'] ?? []) + [
                \PDO::ATTR_TIMEOUT => 2,
                \PDO::ATTR_DEFAULT_FETCH_MODE => \PDO::FETCH_ASSOC,
                \PDO::ATTR_STRINGIFY_FETCHES => true,
            ]);
        } catch (\PDOException $problem) {
            throw new Refusal("MariaDB at $host does not let us in: {$problem->getMessage()}", 0, $problem);
        }
    }
}
