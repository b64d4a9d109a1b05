<?php

declare(strict_types=1);

namespace Shop\Framework;

/** Calls a method through its plugins: before, around, after, as generated/code wires them. */
trait Interceptor
{
    /** @var list<\Closure(): object> */
    private array $___plugins = [];

    /** @param list<\Closure(): object> $plugins */
    public function ___plugins(array $plugins): void
    {
        $this->___plugins = $plugins;
    }

    /** @param list<mixed> $arguments */
    private function ___call(string $method, array $arguments): mixed
    {
        $next = fn (mixed ...$given): mixed => parent::$method(...$given);
        foreach (array_reverse($this->___plugins) as $make) {
            $plugin = $make();
            $inner = $next;
            $next = function (mixed ...$given) use ($plugin, $inner, $method): mixed {
                $name = ucfirst($method);
                if (method_exists($plugin, "before$name")) {
                    $given = $plugin->{"before$name"}($this, ...$given) ?? $given;
                }
                $result = method_exists($plugin, "around$name")
                    ? $plugin->{"around$name"}($this, $inner, ...$given)
                    : $inner(...$given);
                return method_exists($plugin, "after$name") ? $plugin->{"after$name"}($this, $result, ...$given) : $result;
            };
        }
        return $next(...$arguments);
    }
}
