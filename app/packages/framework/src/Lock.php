<?php

declare(strict_types=1);

namespace Shop\Framework;

/** composer.json and composer.lock: what the shop is made of. The console reads both before anything else, as Magento's does. */
final class Lock
{
    /** @return array<string, string> the packages and their versions */
    public static function read(string $root): array
    {
        self::content("$root/composer.json", 'require');
        return array_column(self::content("$root/composer.lock", 'packages'), 'version', 'name');
    }

    /** @return array<mixed> what the file has under this key */
    private static function content(string $file, string $key): array
    {
        if (!is_file($file)) {
            throw new Refusal(basename($file) . ' is missing in ' . dirname($file));
        }
        $known = json_decode((string) file_get_contents($file), true);
        return $known[$key] ?? throw new Refusal("$file has no \"$key\"");
    }
}
