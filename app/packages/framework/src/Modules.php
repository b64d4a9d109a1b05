<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The enabled modules, in order, and their folders: app/code/Shop/SampleData or vendor/shop/sample-data. */
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
        $path = str_replace('_', '/', $name);
        $package = strtolower((string) preg_replace('/(?<=[a-z])(?=[A-Z])/', '-', $path));
        foreach (["app/code/$path", "vendor/$package"] as $folder) {
            if (is_dir("$this->root/$folder")) {
                return "$this->root/$folder";
            }
        }
        throw new Refusal("app/etc/config.php: module $name is neither in app/code/$path nor in vendor/$package");
    }
}
