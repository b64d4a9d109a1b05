<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Refusal;

/** A number with its unit. */
final class Number
{
    public function __construct(public readonly float $value, public readonly string $unit = '')
    {
    }

    public static function of(string $text): self
    {
        return new self((float) $text, ltrim($text, '+-.0123456789'));
    }

    public function compute(string $sign, self $other): self
    {
        if ($sign === '/' && $other->value === 0.0) {
            throw new Refusal("$this is divided by 0");
        }
        $value = match ($sign) {
            '+' => $this->value + $other->value,
            '-' => $this->value - $other->value,
            '*' => $this->value * $other->value,
            '/' => $this->value / $other->value,
        };
        return new self($value, $this->unit ?: $other->unit);
    }

    public function __toString(): string
    {
        $text = rtrim(rtrim(number_format($this->value, 5, '.', ''), '0'), '.');
        $text = (string) preg_replace('~^(-?)0\.~', '$1.', $text === '-0' ? '0' : $text);
        return $text . ($text === '0' && in_array($this->unit, ['px', 'rem', 'em'], true) ? '' : $this->unit);
    }
}
