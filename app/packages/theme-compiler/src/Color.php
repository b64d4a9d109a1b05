<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

/** A colour: red, green, blue 0 to 255, alpha 0 to 1. */
final class Color
{
    public function __construct(public readonly float $red, public readonly float $green, public readonly float $blue, public readonly float $alpha = 1.0)
    {
    }

    public static function of(string $hex): self
    {
        $hex = ltrim($hex, '#');
        $parts = array_map(hexdec(...), strlen($hex) < 6 ? array_map(static fn (string $digit): string => $digit . $digit, str_split($hex)) : str_split($hex, 2));
        return new self((float) $parts[0], (float) $parts[1], (float) $parts[2], ($parts[3] ?? 255) / 255);
    }

    public static function ofHsl(float $hue, float $saturation, float $lightness, float $alpha): self
    {
        $part = static function (float $shift) use ($hue, $saturation, $lightness): float {
            $turn = fmod($shift + $hue / 30, 12);
            return 255 * ($lightness - $saturation * min($lightness, 1 - $lightness) * max(-1, min($turn - 3, 9 - $turn, 1)));
        };
        return new self($part(0), $part(8), $part(4), $alpha);
    }

    /** @return array{float, float, float} hue in degrees, saturation and lightness 0 to 1 */
    public function hsl(): array
    {
        [$red, $green, $blue] = [$this->red / 255, $this->green / 255, $this->blue / 255];
        [$high, $low] = [max($red, $green, $blue), min($red, $green, $blue)];
        $lightness = ($high + $low) / 2;
        $spread = $high - $low;
        if ($spread < 1e-9) {
            return [0.0, 0.0, $lightness];
        }
        $hue = match ($high) {
            $red => fmod(($green - $blue) / $spread + 6, 6),
            $green => ($blue - $red) / $spread + 2,
            default => ($red - $green) / $spread + 4,
        };
        return [60 * $hue, $spread / (1 - abs(2 * $lightness - 1)), $lightness];
    }

    public function mix(self $other, float $share): self
    {
        $part = static fn (float $mine, float $theirs): float => $mine * $share + $theirs * (1 - $share);
        return new self($part($this->red, $other->red), $part($this->green, $other->green), $part($this->blue, $other->blue), $part($this->alpha, $other->alpha));
    }

    /** How bright it looks, as WCAG 2 computes it. */
    public function luma(): float
    {
        $part = static fn (float $value): float => $value / 255 <= 0.03928 ? $value / 255 / 12.92 : (($value / 255 + 0.055) / 1.055) ** 2.4;
        return 0.2126 * $part($this->red) + 0.7152 * $part($this->green) + 0.0722 * $part($this->blue);
    }

    public function __toString(): string
    {
        $parts = array_map(static fn (float $part): int => (int) round(max(0, min(255, $part))), [$this->red, $this->green, $this->blue]);
        if ($this->alpha < 1) {
            return sprintf('rgba(%d,%d,%d,%s)', $parts[0], $parts[1], $parts[2], new Number($this->alpha));
        }
        $hex = sprintf('%02x%02x%02x', ...$parts);
        return '#' . (preg_match('~^(.)\1(.)\2(.)\3$~', $hex, $found) ? $found[1] . $found[2] . $found[3] : $hex);
    }
}
