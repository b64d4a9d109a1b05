<?php

declare(strict_types=1);

namespace Shop\Framework\Console;

/** One command of bin/magento. */
abstract class Command
{
    /** @return array<string, bool> option => whether it takes a value */
    public function options(): array
    {
        return [];
    }

    abstract public function run(Input $input): int;
}
