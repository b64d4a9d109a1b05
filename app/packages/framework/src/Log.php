<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Lines in var/log. */
final class Log
{
    public function __construct(private readonly string $root)
    {
    }

    public function write(string $name, string $message): void
    {
        $folder = "$this->root/var/log";
        if (!is_dir($folder)) {
            mkdir($folder, 0o770, true);
        }
        file_put_contents("$folder/$name.log", sprintf("[%s] %s\n", gmdate('c'), $message), FILE_APPEND | LOCK_EX);
    }
}
