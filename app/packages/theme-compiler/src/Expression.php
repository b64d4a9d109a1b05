<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Refusal;

/** Computes a value: variables, sums, functions. A value is a Number, a Color or text. */
final class Expression
{
    private const TOKEN = '~\s*(?:(?<string>\~?"(?:\\\\.|[^"\\\\])*"|\~?\'(?:\\\\.|[^\'\\\\])*\')|(?<color>\#[0-9a-fA-F]{3,8}\b)|(?<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:%|[a-zA-Z]+)?)|(?<variable>@[\w-]+)|(?<raw>url\([^)]*\)|(?:calc|var|min|max|clamp|env)(?<inner>\((?:[^()]|(?&inner))*\)))|(?<function>-?[a-zA-Z_][\w-]*)\(|(?<word>(?!-(?![a-zA-Z-]))(?:[\w.!%:=?$\#-]|@\{[\w-]+\})+)|(?<sign>>=|=<|[-+*/(),<>]))~A';

    /** @var list<array{string, string, bool}> kind, text, whether a space stands before it */
    private array $tokens = [];
    private int $next = 0;

    /** @param \Closure(string): (Number|Color|string|array<int, mixed>) $variable */
    public function __construct(string $text, private readonly \Closure $variable)
    {
        for ($at = 0, $text = trim($text); $at < strlen($text); $at += strlen($found[0])) {
            if (!preg_match(self::TOKEN, $text, $found, PREG_UNMATCHED_AS_NULL, $at)) {
                throw new Refusal("not understood: $text");
            }
            foreach (['string', 'color', 'number', 'variable', 'raw', 'function', 'word', 'sign'] as $kind) {
                if ($found[$kind] !== null) {
                    $previous = end($this->tokens);
                    // 4px-1px and (@a)-1 subtract; "0 -1px" does not
                    if ($kind === 'number' && $previous && in_array($found[0][0], ['+', '-'], true) && ($previous[0] !== 'sign' || $previous[1] === ')')) {
                        $this->tokens[] = ['sign', $found[0][0], false];
                        $this->tokens[] = ['number', substr($found[0], 1), false];
                    } else {
                        $this->tokens[] = [$kind, $found[$kind], $found[0][0] !== ltrim($found[0])[0]];
                    }
                }
            }
        }
    }

    /** @return Number|Color|string|list<mixed> a list for what commas divide */
    public function value(): Number|Color|string|array
    {
        $items = [$this->words()];
        while ($this->take(',')) {
            $items[] = $this->words();
        }
        return count($items) === 1 ? $items[0] : $items;
    }

    public static function text(mixed $value, string $glue = ','): string
    {
        return is_array($value) ? implode($glue, array_map(self::text(...), $value)) : (string) $value;
    }

    private function words(): mixed
    {
        $words = [];
        while (isset($this->tokens[$this->next]) && !$this->sees(',', ')')) {
            $words[] = $this->sees('/') ? $this->tokens[$this->next++][1] : $this->sum(false);
        }
        return count($words) === 1 ? $words[0] : str_replace(' / ', '/', implode(' ', array_map(self::text(...), $words)));
    }

    private function sum(bool $divide): mixed
    {
        $left = $this->product($divide);
        while ($this->sees('+', '-') && isset($this->tokens[$this->next + 1])) {
            $left = $this->compute($this->tokens[$this->next++][1], $left, $this->product($divide));
        }
        return $left;
    }

    private function product(bool $divide): mixed
    {
        $left = $this->single();
        // outside of parentheses a/b stays as it is: font: 1rem/1.5
        while ($this->sees('*') || ($divide && $this->sees('/'))) {
            $left = $this->compute($this->tokens[$this->next++][1], $left, $this->single());
        }
        return $left;
    }

    private function single(): mixed
    {
        [$kind, $text] = $this->tokens[$this->next++] ?? throw new Refusal('a value is missing');
        return match ($kind) {
            'number' => Number::of($text),
            'color' => Color::of($text),
            'variable' => ($this->variable)(substr($text, 1)),
            'string' => $text[0] === '~' ? $this->interpolate(substr($text, 2, -1)) : $this->interpolate($text),
            'raw', 'word' => $this->interpolate($text),
            'function' => $this->call($text),
            default => $text === '(' ? $this->inner() : ($text === '-' ? $this->compute('*', new Number(-1.0), $this->single()) : $text),
        };
    }

    private function inner(): mixed
    {
        $value = $this->sum(true);
        return $this->take(')') ? $value : throw new Refusal('")" is missing');
    }

    private function call(string $name): mixed
    {
        $arguments = [];
        while (!$this->take(')')) {
            $arguments[] = $this->words();
            if (!$this->take(',') && !$this->sees(')')) {
                throw new Refusal("\")\" of $name is missing");
            }
        }
        return Functions::call($name, $arguments);
    }

    private function compute(string $sign, mixed $left, mixed $right): mixed
    {
        if ($left instanceof Number && $right instanceof Number) {
            return $left->compute($sign, $right);
        }
        throw new Refusal(sprintf('%s %s %s cannot be computed', self::text($left), $sign, self::text($right)));
    }

    private function interpolate(string $text): string
    {
        // inside of calc() a variable stands without braces
        return (string) preg_replace_callback('~@\{([\w-]+)\}|(?<![\w"\'])@([\w-]+)~', fn (array $found): string => trim(self::text(($this->variable)($found[2] ?? $found[1])), '"\''), $text);
    }

    private function sees(string ...$signs): bool
    {
        [$kind, $text] = $this->tokens[$this->next] ?? ['', ''];
        return $kind === 'sign' && in_array($text, $signs, true);
    }

    private function take(string $sign): bool
    {
        return $this->sees($sign) && ++$this->next;
    }
}
