<?php

declare(strict_types=1);

namespace Notes;

use RuntimeException;

/** The variables of the application's .env, which the pipeline writes. */
final class Environment
{
    /** @param array<string, string> $variables */
    private function __construct(private readonly array $variables)
    {
    }

    public static function read(string $file): self
    {
        $lines = @file($file, FILE_IGNORE_NEW_LINES | FILE_SKIP_EMPTY_LINES);
        if ($lines === false) {
            throw new RuntimeException("$file cannot be read");
        }
        $variables = [];
        foreach ($lines as $line) {
            if (preg_match('/^([A-Z0-9_]+)=("?)(.*)\2$/', $line, $part)) {
                $variables[$part[1]] = preg_replace('/\\\\(["$\\\\])/', '$1', $part[3]);
            }
        }
        return new self($variables);
    }

    public function get(string $name): string
    {
        return $this->variables[$name] ?? throw new RuntimeException("$name is not set");
    }
}
