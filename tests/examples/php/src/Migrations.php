<?php

declare(strict_types=1);

namespace Notes;

use PDO;

/** The files of migrations/, each of which is applied once, in the order of their names. */
final class Migrations
{
    public function __construct(private readonly PDO $database, private readonly string $folder)
    {
    }

    /** @return list<string> */
    public function due(): array
    {
        $known = $this->database->query("SHOW TABLES LIKE 'migration'")->fetchColumn();
        $applied = $known ? $this->database->query('SELECT name FROM migration')->fetchAll(PDO::FETCH_COLUMN) : [];
        return array_values(array_diff(array_map('basename', glob("$this->folder/*.sql")), $applied));
    }

    public function apply(): void
    {
        $this->database->exec('CREATE TABLE IF NOT EXISTS migration (name VARCHAR(100) PRIMARY KEY)');
        $done = $this->database->prepare('INSERT INTO migration VALUES (?)');
        foreach ($this->due() as $name) {
            $this->database->exec(file_get_contents("$this->folder/$name"));
            $done->execute([$name]);
        }
    }
}
