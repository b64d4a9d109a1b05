<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

/** How to make an object of a class. */
interface Plans
{
    /** The class to make where this one is asked for. */
    public function resolve(string $class): string;

    /** @return array<string, array{string, mixed}> parameter => ["object", class] or ["value", value] */
    public function arguments(string $class): array;

    /** @return list<string> */
    public function plugins(string $class): array;
}
