<?php

declare(strict_types=1);

namespace Shop\Framework;

/** The phrases of a language: the modules' i18n files, then the theme's, which win. */
final class Translation
{
    /** @return array<string, string> */
    public static function of(Modules $modules, Theme $theme, string $locale): array
    {
        $phrases = [];
        $own = array_map(static fn (string $folder): string => "$folder/i18n/$locale.csv", array_reverse($theme->folders));
        foreach ([...$modules->files("i18n/$locale.csv"), ...array_filter($own, is_file(...))] as $file) {
            foreach (file($file, FILE_IGNORE_NEW_LINES | FILE_SKIP_EMPTY_LINES) ?: [] as $number => $line) {
                $cells = str_getcsv($line, ',', '"', '');
                if (count($cells) < 2) {
                    throw new Refusal(sprintf('%s:%d: a phrase and its translation are expected', substr($file, strlen($modules->root) + 1), $number + 1));
                }
                $phrases[$cells[0]] = (string) $cells[1];
            }
        }
        ksort($phrases);
        return $phrases;
    }
}
