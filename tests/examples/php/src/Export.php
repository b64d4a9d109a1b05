<?php

declare(strict_types=1);

namespace Notes;

/** A request that takes as long as somebody wants, and reads a class of its release at its end. */
final class Export
{
    public function __construct(private readonly string $root)
    {
    }

    public function rows(): string
    {
        touch("$this->root/var/log/exporting");
        while (!is_file("$this->root/var/log/exported")) {
            usleep(100_000); // a signal ends it early
            clearstatcache();
        }
        return 'exported by ' . ExportName::of($this->root);
    }
}
