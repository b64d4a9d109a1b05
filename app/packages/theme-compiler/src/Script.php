<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

/** Makes a script smaller without understanding it: comments and spaces go, line breaks between statements stay. */
final class Script
{
    private const TOKEN = '~(?<keep>"(?:\\\\.|[^"\\\\\n])*"|\'(?:\\\\.|[^\'\\\\\n])*\'|`(?:\\\\.|[^`\\\\])*`)|(?<comment>//[^\n]*|/\*.*?\*/)|(?<regex>(?<=[=(,:;!&|?{}\[\n])\s*/(?![*/])(?:\\\\.|\[(?:\\\\.|[^\]\\\\\n])*\]|[^/\\\\\[\n])+/[a-z]*)|(?<space>\s+)|(?<other>.)~s';

    public static function minify(string $script): string
    {
        preg_match_all(self::TOKEN, $script, $tokens, PREG_SET_ORDER | PREG_UNMATCHED_AS_NULL);
        $small = $gap = '';
        foreach ($tokens as $token) {
            if (($token['comment'] ?? $token['space'] ?? null) !== null) {
                $gap = str_contains($gap . $token[0], "\n") ? "\n" : ' ';
                continue;
            }
            $text = ltrim($token[0]);
            $small .= self::gap($gap, substr($small, -1), $text[0]) . $text;
            $gap = '';
        }
        return $small === '' ? '' : "$small\n";
    }

    /** @return list<string> the phrases that a script asks the dictionary for */
    public static function phrases(string $script): array
    {
        preg_match_all('~\$t\(\s*(["\'])((?:\\\\.|(?!\1).)*)\1~', $script, $found);
        return array_map(stripslashes(...), $found[2]);
    }

    private static function gap(string $gap, string $before, string $after): string
    {
        if ($gap === '' || $before === '' || strpbrk($before, '{([;,<>=:?&|!*%') !== false || strpbrk($after, '}),;=:?&|*%<>') !== false) {
            return '';
        }
        // a line break may end a statement; a space only keeps words and signs (a + +b) apart
        return $gap === "\n" ? "\n" : (preg_match('~^(?:[\w$][\w$"\'`]|[)\]"\'`}][\w$]|\+\+|--|/.|./)$~', $before . $after) ? ' ' : '');
    }
}
