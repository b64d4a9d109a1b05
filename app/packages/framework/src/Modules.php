<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The enabled modules, in order, and their folders, as their registration.php says. */
final class Modules
{
    public function __construct(public readonly string $root, private readonly Configuration $configuration)
    {
    }

    /** @return array<string, string> name => folder */
    public function folders(): array
    {
        $modules = $this->configuration->get('modules') ?? throw new Refusal('app/etc/config.php: "modules" is missing');
        $folders = [];
        foreach (array_keys(array_filter($modules)) as $name) {
            $folders[$name] = $this->folder($name);
        }
        return $folders;
    }

    /** @return list<string> the existing files of this name in every module's folder */
    public function files(string $path): array
    {
        return array_values(array_filter(array_map(static fn (string $folder): string => "$folder/$path", $this->folders()), 'is_file'));
    }

    private function folder(string $name): string
    {
        return Registrar::folder($name) ?? throw new Refusal("app/etc/config.php: module $name is not registered: no registration.php names it");
    }
}
