<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

use Shop\Framework\Modules;
use Shop\Framework\Refusal;

/** What the di.xml files of an area say together; the later file wins. */
final class Definition
{
    /** @var array<string, string> */
    public array $preferences = [];

    /** @var array<string, array<string, array{string, mixed}>> */
    public array $arguments = [];

    /** @var array<string, array<string, array{int, string}>> class => name => [order, plugin] */
    public array $plugins = [];

    public static function ofArea(Modules $modules, string $area): self
    {
        $definition = new self();
        $files = ["$modules->root/app/etc/di.xml", ...$modules->files('etc/di.xml')];
        if ($area !== 'global') {
            $files = [...$files, ...$modules->files("etc/$area/di.xml")];
        }
        foreach ($files as $file) {
            $definition->read($file, substr($file, strlen($modules->root) + 1));
        }
        return $definition;
    }

    /** @return list<string> the plugins of a class, in their order */
    public function pluginsOf(string $class): array
    {
        $plugins = $this->plugins[$class] ?? [];
        ksort($plugins);
        usort($plugins, static fn (array $a, array $b): int => $a[0] <=> $b[0]);
        return array_column($plugins, 1);
    }

    private function read(string $file, string $name): void
    {
        $before = libxml_use_internal_errors(true);
        $xml = simplexml_load_file($file);
        $error = libxml_get_last_error();
        libxml_use_internal_errors($before);
        if ($xml === false) {
            throw new Refusal(sprintf('%s:%d: %s', $name, $error ? $error->line : 1, $error ? trim($error->message) : 'no XML'));
        }
        foreach ($xml->preference as $preference) {
            $this->preferences[(string) $preference['for']] = (string) $preference['type'];
        }
        foreach ($xml->type as $type) {
            $class = (string) $type['name'];
            foreach ($type->arguments->argument ?? [] as $argument) {
                $this->argument($class, (string) $argument['name'], $argument, $name);
            }
            foreach ($type->plugin ?? [] as $plugin) {
                $this->plugins[$class][(string) $plugin['name']] = [(int) $plugin['sortOrder'], (string) $plugin['type']];
            }
        }
    }

    private function argument(string $class, string $argument, \SimpleXMLElement $xml, string $file): void
    {
        $text = trim((string) $xml);
        $kind = (string) ($xml->attributes('xsi', true)['type'] ?? 'string');
        if ($kind === 'array') {
            // files add items to an array, they do not replace it
            $items = $this->arguments[$class][$argument][1] ?? [];
            foreach ($xml->item as $item) {
                $items[(string) $item['name']] = trim((string) $item);
            }
            $this->arguments[$class][$argument] = ['value', $items];
            return;
        }
        $this->arguments[$class][$argument] = match ($kind) {
            'object' => ['object', $text],
            'string' => ['value', $text],
            'number' => ['value', $text + 0],
            'boolean' => ['value', $text === 'true'],
            'null' => ['value', null],
            default => throw new Refusal("$file: argument $argument of $class: unknown type $kind (known: array, boolean, null, number, object, string)"),
        };
    }
}
