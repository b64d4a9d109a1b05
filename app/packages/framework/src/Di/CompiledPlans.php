<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

use Shop\Framework\Refusal;

/** Plans as generated/metadata has them: no reflection, no XML. */
final class CompiledPlans implements Plans
{
    /** @param array{arguments: array<string, array<string, array{string, mixed}>>, preferences: array<string, string>, plugins: array<string, list<string>>} $metadata */
    public function __construct(private readonly array $metadata)
    {
    }

    public function resolve(string $class): string
    {
        return $this->metadata['preferences'][$class] ?? $class;
    }

    public function arguments(string $class): array
    {
        return $this->metadata['arguments'][$class] ?? throw new Refusal("$class is not compiled: run bin/magento setup:di:compile");
    }

    public function plugins(string $class): array
    {
        return $this->metadata['plugins'][$class] ?? [];
    }
}
