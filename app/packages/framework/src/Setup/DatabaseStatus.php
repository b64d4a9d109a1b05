<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;

/** setup:db:status: exit 0 when the database fits the code, 2 when setup:upgrade is due, 1 when it is empty. */
final class DatabaseStatus extends Command
{
    public function __construct(private readonly Database $database)
    {
    }

    public function run(Input $input): int
    {
        $due = $this->database->due();
        echo $due ? "Run setup:upgrade, these are due:\n  " . implode("\n  ", $due) . "\n" : "All modules are up to date.\n";
        return $due ? 2 : 0;
    }
}
