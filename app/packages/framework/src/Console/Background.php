<?php

declare(strict_types=1);

namespace Shop\Framework\Console;

use Shop\Framework\Configuration;

/** Starts a command that goes on when this one has ended. What it prints is lost, as Magento's is. */
final class Background
{
    public function __construct(private readonly Configuration $configuration)
    {
    }

    public function start(string ...$words): void
    {
        $command = array_map(escapeshellarg(...), [PHP_BINARY, "{$this->configuration->root}/bin/magento", ...$words]);
        exec(implode(' ', $command) . ' > /dev/null 2>&1 &');
    }
}
