<?php

declare(strict_types=1);

namespace Shop\Framework;

/** composer.lock: which versions the shop is made of. The console reads it and composer.json before anything else, as Magento's does. */
final class Lock
{
    /** @return array<string, string> the packages and their versions */
    public static function read(string $root): array
    {
        if (!is_file("$root/composer.json")) {
            throw new Refusal("composer.json is missing in $root");
        }
        $file = "$root/composer.lock";
        if (!is_file($file)) {
            throw new Refusal("composer.lock is missing in $root: composer update --lock");
        }
        $known = json_decode((string) file_get_contents($file), true);
        if (!is_array($known) || !isset($known['packages'])) {
            throw new Refusal("$file is no lock file: composer update --lock");
        }
        return array_column($known['packages'], 'version', 'name');
    }
}
