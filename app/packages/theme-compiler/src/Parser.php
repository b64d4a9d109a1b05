<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Refusal;

/**
 * Turns a stylesheet into nodes: [kind, ...] with the place, file:line, last.
 *
 * rule selector body | at prelude body | mixin name parameters guard body
 * declaration name value | variable name value | call name arguments | import path | modules path
 */
final class Parser
{
    private int $at = 0;

    private function __construct(private readonly string $text, private readonly string $file)
    {
    }

    /** @return list<array<int, mixed>> */
    public static function parse(string $text, string $file): array
    {
        // module styles are asked for in a comment, so that other compilers pass over it
        $text = (string) preg_replace('~//\s*@magento_import\s~', '@magento_import ', $text);
        // strings first: what looks like a comment in them is none; a comment leaves its line breaks
        $strip = static fn (array $found): string => in_array($found[0][0], ['"', "'", 'u'], true) ? $found[0] : str_repeat("\n", substr_count($found[0], "\n")) . ' ';
        $text = (string) preg_replace_callback('~"(?:\\\\.|[^"\\\\\n])*"|\'(?:\\\\.|[^\'\\\\\n])*\'|url\([^)]*\)|/\*.*?\*/|//[^\n]*~s', $strip, $text);
        $parser = new self($text, $file);
        $nodes = $parser->body();
        return $parser->at < strlen($text) ? $parser->fail('"}" closes nothing') : $nodes;
    }

    /** @return list<array<int, mixed>> */
    private function body(): array
    {
        $nodes = [];
        while (true) {
            $this->at += strspn($this->text, " \t\r\n;", $this->at);
            if ($this->at >= strlen($this->text) || $this->text[$this->at] === '}') {
                return $nodes;
            }
            $line = $this->line();
            $head = $this->head();
            if (($this->text[$this->at] ?? '') === '{') {
                $this->at++;
                $body = $this->body();
                if (($this->text[$this->at] ?? '') !== '}') {
                    $this->fail("the \"{\" of line $line is not closed");
                }
                $this->at++;
                $nodes[] = [...$this->block($head, $body), "$this->file:$line"];
            } else {
                $nodes[] = [...$this->statement($head), "$this->file:$line"];
            }
        }
    }

    /** Reads up to what ends it: { of a block, ; or the } of the block around. */
    private function head(): string
    {
        $pattern = '~(?:"(?:\\\\.|[^"\\\\])*"|\'(?:\\\\.|[^\'\\\\])*\'|(?<inner>\((?:"[^"]*"|\'[^\']*\'|[^()"\']|(?&inner))*+\))|@\{[^}]*\}|[^;{}"\'@(]|[@(])*+~A';
        preg_match($pattern, $this->text, $found, 0, $this->at);
        $this->at += strlen($found[0]);
        return trim($found[0]) === '' ? $this->fail('something is expected before "' . ($this->text[$this->at] ?? 'the end') . '"') : trim($found[0]);
    }

    /**
     * @param list<array<int, mixed>> $body
     * @return array<int, mixed>
     */
    private function block(string $head, array $body): array
    {
        if (preg_match('~^\.([\w-]+)\s*\((.*?)\)\s*(?:when\s+(.+))?$~s', $head, $found)) {
            return ['mixin', $found[1], self::parameters($found[2]), $found[3] ?? '', $body];
        }
        return $head[0] === '@' && $head[1] !== '{' ? ['at', $head, $body] : ['rule', $head, $body];
    }

    /** @return array<int, mixed> */
    private function statement(string $head): array
    {
        return match (1) {
            preg_match('~^@(import|magento_import)\s+(?:\([\w, ]+\)\s*)?["\']([^"\']+)["\']$~', $head, $found) => [$found[1] === 'import' ? 'import' : 'modules', $found[2]],
            preg_match('~^@([\w-]+)\s*:\s*(.+)$~s', $head, $found) => ['variable', $found[1], $found[2]],
            preg_match('~^\.([\w-]+)\s*(?:\((.*)\))?$~s', $head, $found) => ['call', $found[1], self::split($found[2] ?? '')],
            preg_match('~^((?:[\w-]|@\{[\w-]+\})+)\s*:\s*(.+)$~s', $head, $found) => ['declaration', $found[1], $found[2]],
            default => $this->fail("not understood: $head"),
        };
    }

    /** @return array<string, string|null> name => default */
    private static function parameters(string $text): array
    {
        $parameters = [];
        foreach (self::split($text) as $parameter) {
            [$name, $default] = [...array_map(trim(...), explode(':', $parameter, 2)), null];
            $parameters[ltrim($name, '@')] = $default;
        }
        return $parameters;
    }

    /** @return list<string> at semicolons, or else at the commas outside of parentheses */
    private static function split(string $text): array
    {
        $separator = str_contains($text, ';') ? ';' : ',(?![^(]*\))';
        return array_values(array_filter(array_map(trim(...), preg_split("~$separator~", $text) ?: []), static fn (string $part): bool => $part !== ''));
    }

    private function line(): int
    {
        return substr_count($this->text, "\n", 0, min($this->at, strlen($this->text))) + 1;
    }

    private function fail(string $what): never
    {
        throw new Refusal("$this->file:{$this->line()}: $what");
    }
}
