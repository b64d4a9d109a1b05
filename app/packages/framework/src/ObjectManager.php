<?php

declare(strict_types=1);

namespace Shop\Framework;

use Shop\Framework\Di\Plans;

/** Makes objects by the plans that setup:di:compile has written, or by reflection before it ran. */
final class ObjectManager
{
    /** @var array<string, object> */
    private array $shared = [];

    public function __construct(private readonly Plans $plans)
    {
    }

    public function share(object $instance): void
    {
        $this->shared[$instance::class] = $instance;
    }

    /**
     * @template T of object
     * @param class-string<T> $class
     * @return T
     */
    public function get(string $class): object
    {
        $class = $this->plans->resolve(ltrim($class, '\\'));
        return $this->shared[$class] ??= $this->create($class);
    }

    /** @param array<string, mixed> $arguments by name; the container finds the others */
    public function create(string $class, array $arguments = []): object
    {
        $class = $this->plans->resolve(ltrim($class, '\\'));
        foreach ($this->plans->arguments($class) as $name => [$kind, $value]) {
            if (!array_key_exists($name, $arguments)) {
                $arguments[$name] = $kind === 'object' ? $this->get($value) : $value;
            }
        }
        $object = new $class(...$arguments);
        if (method_exists($object, '___plugins')) {
            $object->___plugins(array_map(fn (string $plugin): \Closure => fn (): object => $this->get($plugin), $this->plans->plugins($class)));
        }
        return $object;
    }
}
