<?php

declare(strict_types=1);

namespace Shop\Framework\Console;

use Shop\Framework\Refusal;

/** The words behind a command, sorted into options and arguments. */
final class Input
{
    private const EVERYWHERE = ['no-interaction' => false, 'n' => false, 'quiet' => false, 'q' => false, 'ansi' => false, 'no-ansi' => false];

    /**
     * @param array<string, list<string>> $options
     * @param list<string> $arguments
     */
    private function __construct(public readonly string $command, public readonly array $options, public readonly array $arguments)
    {
    }

    /**
     * @param list<string> $words
     * @param array<string, bool> $known
     */
    public static function parse(string $command, array $words, array $known): self
    {
        $known += self::EVERYWHERE;
        $options = $arguments = [];
        while ($words) {
            $word = array_shift($words);
            if ($word === '' || $word[0] !== '-') {
                $arguments[] = $word;
                continue;
            }
            [$name, $value] = [...explode('=', ltrim($word, '-'), 2), null];
            if (!array_key_exists($name, $known)) {
                throw new Refusal(sprintf('unknown option %s (known: %s)', $word, implode(', ', array_map(static fn (string $option): string => (strlen($option) > 1 ? '--' : '-') . $option, array_keys($known)))));
            }
            if ($known[$name] && $value === null) {
                $value = array_shift($words) ?? throw new Refusal("option $word needs a value");
            }
            $options[$name][] = (string) $value;
        }
        return new self($command, $options, $arguments);
    }

    public function has(string $option): bool
    {
        return isset($this->options[$option]);
    }

    /** @return list<string> */
    public function all(string ...$names): array
    {
        return array_merge(...array_map(fn (string $name): array => $this->options[$name] ?? [], $names));
    }
}
