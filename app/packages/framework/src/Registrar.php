<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Where modules are: each has a registration.php that says so, in app/code and in packages. */
final class Registrar
{
    /** @var array<string, string> */
    private static array $folders = [];

    public static function register(string $module, string $folder): void
    {
        self::$folders[$module] = $folder;
    }

    public static function folder(string $module): ?string
    {
        return self::$folders[$module] ?? null;
    }
}
