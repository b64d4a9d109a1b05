<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Refusal;

/** Compiles a stylesheet: variables are looked up when they are used, so that a later definition wins. */
final class Stylesheet
{
    private const DEEPEST = 400;

    /** @var list<array{string, string, list<string>}> condition, selector, declarations, in the cascade's order */
    private array $rules = [];

    /** @var list<array{variables: array<string, mixed>, mixins: array<string, list<array<int, mixed>>>}> */
    private array $scopes = [];

    /** @param \Closure(string, bool): array<string, string> $find path and whether modules are meant => file => text */
    public function __construct(private readonly \Closure $find)
    {
    }

    public function compile(string $path): string
    {
        $this->rules = $this->scopes = [];
        $this->body($this->load($path, false, []), '', '');
        $css = $open = '';
        foreach ($this->rules as [$condition, $selector, $declarations]) {
            if ($condition !== $open) {
                $css .= ($open === '' ? '' : '}') . ($condition === '' ? '' : "$condition{");
                $open = $condition;
            }
            // the last of equal declarations counts
            $css .= "$selector{" . implode(';', array_reverse(array_unique(array_reverse($declarations)))) . '}';
        }
        $css .= $open === '' ? '' : '}';
        return $css;
    }

    /**
     * @param list<string> $path the files that led here
     * @return list<array<int, mixed>> with the imported files in their places
     */
    private function load(string $name, bool $modules, array $path): array
    {
        $nodes = [];
        foreach (($this->find)($name, $modules) as $file => $text) {
            if (in_array($file, $path, true)) {
                throw new Refusal("$file imports itself");
            }
            foreach (Parser::parse($text, $file) as $node) {
                $imported = in_array($node[0], ['import', 'modules'], true);
                $nodes = $imported ? [...$nodes, ...$this->load($node[1], $node[0] === 'modules', [...$path, $file])] : [...$nodes, $node];
            }
        }
        return $nodes;
    }

    /**
     * @param list<array<int, mixed>> $nodes
     * @param array<string, mixed> $variables
     */
    private function body(array $nodes, string $selector, string $condition, array $variables = []): void
    {
        if (count($this->scopes) >= self::DEEPEST) {
            throw new Refusal('nested too deeply: a mixin calls itself for ever');
        }
        $scope = ['variables' => [], 'mixins' => []];
        foreach ($nodes as $node) {
            if ($node[0] === 'variable') {
                $scope['variables'][$node[1]] = [$node[2]];
            } elseif ($node[0] === 'mixin') {
                $scope['mixins'][$node[1]][] = $node;
            }
        }
        $scope['variables'] += $variables;
        $this->scopes[] = $scope;
        foreach ($nodes as $node) {
            try {
                $this->node($node, $selector, $condition);
            } catch (Refusal $refusal) {
                throw str_contains($refusal->getMessage(), '.less:') ? $refusal : new Refusal(end($node) . ": {$refusal->getMessage()}");
            }
        }
        array_pop($this->scopes);
    }

    /** @param array<int, mixed> $node */
    private function node(array $node, string $selector, string $condition): void
    {
        match ($node[0]) {
            'declaration' => $this->declare($selector, $condition, $this->interpolate($node[1]), $node[2]),
            'rule' => $this->body($node[2], $this->nest($selector, $this->interpolate($node[1])), $condition),
            'at' => $this->at($node, $selector, $condition),
            'call' => $this->call($node[1], $node[2], $selector, $condition),
            default => null,
        };
    }

    private function declare(string $selector, string $condition, string $name, string $value): void
    {
        if ($selector === '') {
            throw new Refusal("$name stands outside of a rule");
        }
        $declaration = "$name:" . Expression::text($this->value($value));
        $last = count($this->rules) - 1;
        if ($last >= 0 && $this->rules[$last][0] === $condition && $this->rules[$last][1] === $selector) {
            $this->rules[$last][2][] = $declaration;
        } else {
            $this->rules[] = [$condition, $selector, [$declaration]];
        }
    }

    /** @param array<int, mixed> $node */
    private function at(array $node, string $selector, string $condition): void
    {
        $head = (string) preg_replace('~\s*([:,])\s*~', '$1', $this->interpolate($node[1]));
        $head = (string) preg_replace_callback('~(?<=[:(])@([\w-]+)~', fn (array $found): string => Expression::text($this->variable($found[1])), $head);
        if ($head === '@font-face') {
            // two of them are not one
            $this->rules[] = [$condition, $head, []];
            $this->body($node[2], $head, $condition);
            return;
        }
        if (str_starts_with($head, '@media') && str_starts_with($condition, '@media')) {
            $head = $condition . ' and ' . trim(substr($head, strlen('@media')));
        }
        // the steps of an animation are not below the rule around it
        $this->body($node[2], str_starts_with($head, '@media') || str_starts_with($head, '@supports') ? $selector : '', $head);
    }

    /** @param list<string> $given */
    private function call(string $name, array $given, string $selector, string $condition): void
    {
        $values = array_map($this->value(...), $given);
        foreach (array_reverse($this->scopes) as $scope) {
            $mixins = array_filter($scope['mixins'][$name] ?? [], static fn (array $mixin): bool => count($values) <= count($mixin[2]));
            foreach ($mixins as $mixin) {
                $names = array_keys($mixin[2]);
                $variables = array_map(static fn (?string $default): mixed => $default === null ? null : [$default], $mixin[2]);
                foreach ($values as $index => $value) {
                    $variables[$names[$index]] = ['', $value];
                }
                $missing = array_search(null, $variables, true);
                if ($missing !== false) {
                    throw new Refusal(".$name needs @$missing");
                }
                if ($mixin[3] === '' || $this->holds($mixin[3], $variables)) {
                    $this->body($mixin[4], $selector, $condition, $variables);
                }
            }
            if ($mixins) {
                return;
            }
        }
        throw new Refusal("there is no mixin .$name with " . count($values) . ' arguments');
    }

    /** @param array<string, mixed> $variables */
    private function holds(string $guard, array $variables): bool
    {
        $this->scopes[] = ['variables' => $variables, 'mixins' => []];
        $holds = true;
        foreach (preg_split('~\s+and\s+~', $guard) ?: [] as $part) {
            if (!preg_match('~^\((.+?)\s*(>=|=<|[<>=])\s*(.+)\)$~', trim($part), $found)) {
                throw new Refusal("not understood: when $guard");
            }
            [$left, $right] = [$this->value($found[1]), $this->value($found[3])];
            [$left, $right] = $left instanceof Number && $right instanceof Number ? [$left->value, $right->value] : [Expression::text($left), Expression::text($right)];
            $holds = $holds && match ($found[2]) {
                '=' => $left === $right,
                '>' => $left > $right,
                '<' => $left < $right,
                '>=' => $left >= $right,
                '=<' => $left <= $right,
            };
        }
        array_pop($this->scopes);
        return $holds;
    }

    private function value(string $text): mixed
    {
        return (new Expression($text, $this->variable(...)))->value();
    }

    private function variable(string $name): mixed
    {
        for ($depth = count($this->scopes) - 1; $depth >= 0; $depth--) {
            $found = $this->scopes[$depth]['variables'][$name] ?? null;
            if ($found === null) {
                continue;
            }
            if (count($found) === 1) {
                // computed once, and not again while it is being computed: a variable of itself is an error
                unset($this->scopes[$depth]['variables'][$name]);
                $inner = array_splice($this->scopes, $depth + 1);
                $found = [$found[0], $this->value($found[0])];
                $this->scopes = [...$this->scopes, ...$inner];
                $this->scopes[$depth]['variables'][$name] = $found;
            }
            return $found[1];
        }
        throw new Refusal("@$name is not defined");
    }

    private function interpolate(string $text): string
    {
        return (string) preg_replace_callback('~@\{([\w-]+)\}~', fn (array $found): string => trim(Expression::text($this->variable($found[1])), '"\''), $text);
    }

    private function nest(string $outer, string $inner): string
    {
        $selectors = [];
        foreach ($outer === '' ? [''] : explode(',', $outer) as $parent) {
            foreach (preg_split('~,(?![^(]*\))~', $inner) ?: [] as $child) {
                $child = (string) preg_replace(['~\s+~', '~\s*([>+\~])\s*~'], [' ', '$1'], trim($child));
                $selectors[] = str_contains($child, '&') ? str_replace('&', $parent, $child) : ltrim($parent . (strpbrk($child[0], '>+~') ? '' : ' ') . $child);
            }
        }
        return implode(',', $selectors);
    }
}
