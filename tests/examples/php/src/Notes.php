<?php

declare(strict_types=1);

namespace Notes;

use PDO;

/** The notes on the board. A new one waits until a worker publishes it. */
final class Notes
{
    public function __construct(private readonly PDO $database)
    {
    }

    public function add(string $text): void
    {
        $this->database->prepare('INSERT INTO note (text) VALUES (?)')->execute([$text]);
    }

    /** @return list<array<string, mixed>> */
    public function published(): array
    {
        return $this->database->query('SELECT * FROM note WHERE published_by IS NOT NULL ORDER BY id')->fetchAll();
    }

    public function publish(string $release): int
    {
        $waiting = $this->database->prepare('UPDATE note SET published_by = ? WHERE published_by IS NULL');
        $waiting->execute([$release]);
        return $waiting->rowCount();
    }
}
