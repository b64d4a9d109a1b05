<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Refusal;

/** The functions that are computed here; any other is left to the browser. */
final class Functions
{
    /** @param list<mixed> $given */
    public static function call(string $name, array $given): mixed
    {
        $color = static fn (int $index = 0): Color => ($given[$index] ?? null) instanceof Color ? $given[$index] : throw new Refusal("$name needs a colour");
        $number = static fn (int $index): Number => ($given[$index] ?? null) instanceof Number ? $given[$index] : throw new Refusal("$name needs a number");
        $share = static fn (int $index): float => $number($index)->value / ($number($index)->unit === '%' ? 100 : 1);
        return match ($name) {
            'lighten' => self::shift($color(), lightness: $share(1)),
            'darken' => self::shift($color(), lightness: -$share(1)),
            'saturate' => self::shift($color(), saturation: $share(1)),
            'desaturate' => self::shift($color(), saturation: -$share(1)),
            'spin' => self::shift($color(), hue: $number(1)->value),
            'fade' => new Color($color()->red, $color()->green, $color()->blue, $share(1)),
            'mix' => $color()->mix($color(1), isset($given[2]) ? $share(2) : 0.5),
            'contrast' => ($color()->luma() + 0.05) / 0.05 > 1.05 / ($color()->luma() + 0.05) ? $given[1] ?? new Color(0, 0, 0) : $given[2] ?? new Color(255, 255, 255),
            'rgb', 'rgba' => $given[0] instanceof Number && isset($given[2]) ? new Color($number(0)->value, $number(1)->value, $number(2)->value, isset($given[3]) ? $share(3) : 1.0) : self::plain($name, $given),
            'percentage' => new Number($number(0)->value * 100, '%'),
            'round', 'ceil', 'floor' => new Number($name($number(0)->value), $number(0)->unit),
            'unit' => new Number($number(0)->value, isset($given[1]) ? (string) $given[1] : ''),
            'mod' => new Number(fmod($number(0)->value, $number(1)->value), $number(0)->unit),
            'pow' => new Number($number(0)->value ** $number(1)->value, $number(0)->unit),
            'length' => new Number((float) count(self::items($given[0]))),
            'extract' => self::items($given[0])[(int) $number(1)->value - 1] ?? throw new Refusal("extract: the list has no item {$number(1)}"),
            'e' => trim((string) $given[0], '"\''),
            default => self::plain($name, $given),
        };
    }

    private static function shift(Color $color, float $hue = 0, float $saturation = 0, float $lightness = 0): Color
    {
        [$oldHue, $oldSaturation, $oldLightness] = $color->hsl();
        return Color::ofHsl(fmod($oldHue + $hue + 360, 360), max(0, min(1, $oldSaturation + $saturation)), max(0, min(1, $oldLightness + $lightness)), $color->alpha);
    }

    /** @return list<mixed> */
    private static function items(mixed $value): array
    {
        return is_array($value) ? $value : (is_string($value) ? explode(' ', $value) : [$value]);
    }

    /** @param list<mixed> $given */
    private static function plain(string $name, array $given): string
    {
        return "$name(" . Expression::text($given) . ')';
    }
}
