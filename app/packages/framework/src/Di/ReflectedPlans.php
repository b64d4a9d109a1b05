<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

use Shop\Framework\Refusal;

/** Plans made on the spot, for the commands that run before there is anything compiled: no plugins. */
final class ReflectedPlans implements Plans
{
    public function __construct(private readonly Definition $definition)
    {
    }

    public function resolve(string $class): string
    {
        return $this->definition->preferences[$class] ?? $class;
    }

    public function arguments(string $class): array
    {
        if (!class_exists($class)) {
            throw new Refusal("$class does not exist, or is made by bin/magento setup:di:compile");
        }
        $given = $this->definition->arguments[$class] ?? [];
        $arguments = [];
        foreach ((new \ReflectionClass($class))->getConstructor()?->getParameters() ?? [] as $parameter) {
            $name = $parameter->getName();
            $type = $parameter->getType();
            if (array_key_exists($name, $given)) {
                $arguments[$name] = $given[$name];
            } elseif ($parameter->isDefaultValueAvailable()) {
                continue;
            } elseif ($type instanceof \ReflectionNamedType && !$type->isBuiltin()) {
                $arguments[$name] = ['object', $type->getName()];
            }
        }
        return $arguments;
    }

    public function plugins(string $class): array
    {
        return [];
    }
}
