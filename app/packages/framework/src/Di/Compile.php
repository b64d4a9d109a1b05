<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

use Shop\Framework\Bootstrap;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Folder;
use Shop\Framework\Modules;
use Shop\Framework\Refusal;

/** setup:di:compile: generated/metadata for each area, and the factories and interceptors in generated/code. */
final class Compile extends Command
{
    private const AREAS = ['global', 'frontend', 'crontab'];

    public function __construct(private readonly Modules $modules, private readonly CodeGenerator $generator)
    {
    }

    public function run(Input $input): int
    {
        $target = "{$this->modules->root}/generated";
        Folder::remove($target);
        $classes = $this->classes();
        $definitions = [];
        foreach (self::AREAS as $area) {
            $definitions[$area] = Definition::ofArea($this->modules, $area);
        }
        $generated = $this->generateCode($classes, $definitions, "$target/code");
        foreach ($generated as $class => $file) {
            $this->check($file);
            // the autoloader remembers that there was no such class
            require_once $file;
        }
        foreach ($definitions as $area => $definition) {
            $metadata = $this->metadata([...$classes, ...array_keys($generated)], $definition);
            Folder::write("$target/metadata/$area.php", "<?php\n\nreturn " . var_export($metadata, true) . ";\n");
        }
        echo sprintf("compiled %d classes for %d areas, generated %d\n", count($classes), count(self::AREAS), count($generated));
        return 0;
    }

    /** @return list<string> every class that can be made, from app/code and from our packages */
    private function classes(): array
    {
        $classes = [];
        foreach (['app/code', 'vendor/shop'] as $folder) {
            foreach (Folder::files("{$this->modules->root}/$folder", 'php') as $file) {
                $this->check($file);
                $classes = [...$classes, ...SourceFile::classes($file)];
            }
        }
        $classes = array_filter($classes, static fn (string $class): bool => (new \ReflectionClass($class))->isInstantiable());
        sort($classes);
        return array_values($classes);
    }

    /**
     * @param list<string> $classes
     * @param array<string, Definition> $definitions
     * @return array<string, string> class => file
     */
    private function generateCode(array $classes, array $definitions, string $folder): array
    {
        $sources = [];
        foreach ($classes as $class) {
            foreach ((new \ReflectionClass($class))->getConstructor()?->getParameters() ?? [] as $parameter) {
                $type = (string) $parameter->getType();
                if (str_ends_with($type, 'Factory') && !class_exists($type) && class_exists(substr($type, 0, -7))) {
                    $sources[$type] = $this->generator->factory(substr($type, 0, -7));
                }
            }
        }
        foreach ($definitions as $definition) {
            foreach (array_keys($definition->plugins) as $class) {
                $sources["$class\\Interceptor"] = $this->generator->interceptor($class, $definition->pluginsOf($class));
            }
        }
        ksort($sources);
        $files = [];
        foreach ($sources as $class => $source) {
            $files[$class] = "$folder/" . str_replace('\\', '/', $class) . '.php';
            Folder::write($files[$class], $source);
        }
        return $files;
    }

    /**
     * @param list<string> $classes
     * @return array{arguments: array<string, mixed>, preferences: array<string, string>, plugins: array<string, list<string>>}
     */
    private function metadata(array $classes, Definition $definition): array
    {
        $plans = new ReflectedPlans($definition);
        $metadata = ['arguments' => [], 'preferences' => $definition->preferences, 'plugins' => []];
        foreach ($classes as $class) {
            $metadata['arguments'][$class] = $plans->arguments($class);
        }
        foreach (array_keys($definition->plugins) as $class) {
            $metadata['preferences'][$class] = "$class\\Interceptor";
            $metadata['plugins']["$class\\Interceptor"] = $definition->pluginsOf($class);
            $metadata['arguments']["$class\\Interceptor"] = $plans->arguments($class);
        }
        $complete = new CompiledPlans($metadata);
        foreach ($classes as $class) {
            $this->follow($class, $complete, []);
        }
        array_walk($metadata, static fn (array &$part): bool => ksort($part));
        return $metadata;
    }

    /** @param list<string> $path from the first class to the one that asks for this */
    private function follow(string $class, CompiledPlans $plans, array $path): void
    {
        $class = $plans->resolve($class);
        if (in_array($class, $path, true)) {
            throw new Refusal('these classes need each other: ' . implode(' > ', [...$path, $class]));
        }
        if (!class_exists($class)) {
            throw new Refusal(sprintf('%s needs %s, which %s', end($path), $class, interface_exists($class) ? 'is an interface without a preference in di.xml' : 'does not exist'));
        }
        if (in_array($class, Bootstrap::GIVEN, true) || !(new \ReflectionClass($class))->isUserDefined()) {
            return;
        }
        foreach ($plans->arguments($class) as [$kind, $value]) {
            if ($kind === 'object') {
                $this->follow($value, $plans, [...$path, $class]);
            }
        }
    }

    /** A class that does not fit its parent ends PHP itself: so each file is loaded in a process of its own. */
    private function check(string $file): void
    {
        $command = [PHP_BINARY, '-d', 'display_errors=stderr', '-d', 'log_errors=0', '-r', 'require $argv[1]; require_once $argv[2];', '--', "{$this->modules->root}/vendor/autoload.php", $file];
        $process = proc_open($command, [1 => ['file', '/dev/null', 'w'], 2 => ['pipe', 'w']], $pipes);
        $message = trim((string) stream_get_contents($pipes[2]));
        if (proc_close($process) !== 0) {
            throw new Refusal(substr($file, strlen($this->modules->root) + 1) . ' cannot be loaded: ' . strtr(strtok($message, "\n") ?: 'PHP does not say why', ["{$this->modules->root}/" => '']));
        }
    }
}
