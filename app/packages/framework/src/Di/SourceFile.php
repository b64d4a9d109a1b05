<?php

declare(strict_types=1);

namespace Shop\Framework\Di;

/** The classes that a PHP file declares, found without running it. */
final class SourceFile
{
    /** @return list<string> */
    public static function classes(string $file): array
    {
        $tokens = array_values(array_filter(\PhpToken::tokenize((string) file_get_contents($file)), static fn (\PhpToken $token): bool => !$token->isIgnorable()));
        $namespace = '';
        $classes = [];
        foreach ($tokens as $index => $token) {
            $name = $tokens[$index + 1] ?? null;
            if ($token->is(T_NAMESPACE) && $name?->is([T_NAME_QUALIFIED, T_STRING])) {
                $namespace = "$name->text\\";
            } elseif ($token->is(T_CLASS) && $name?->is(T_STRING)) {
                $classes[] = $namespace . $name->text;
            }
        }
        return $classes;
    }
}
