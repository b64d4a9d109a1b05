<?php

declare(strict_types=1);

namespace Shop\ThemeCompiler;

use Shop\Framework\Configuration;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Folder;
use Shop\Framework\Modules;
use Shop\Framework\Refusal;
use Shop\Framework\Theme;
use Shop\Framework\Translation;

/** setup:static-content:deploy: a folder in pub/static for every theme and language; needs no database and no generated/. */
final class Deploy extends Command
{
    public function __construct(private readonly Configuration $configuration, private readonly Modules $modules)
    {
    }

    public function options(): array
    {
        $values = ['theme', 't', 'language', 'l', 'content-version', 'area', 'a', 'jobs', 'j', 'strategy', 's'];
        return array_fill_keys($values, true) + ['force' => false, 'f' => false, 'no-html-minify' => false];
    }

    public function run(Input $input): int
    {
        if (!$input->has('f') && !$input->has('force')) {
            throw new Refusal('static content is deployed by hand in production mode only: say so with -f');
        }
        if ($this->configuration->get('scopes/websites/base') === null) {
            throw new Refusal("The default website isn't defined: app/etc/config.php needs \"scopes\"");
        }
        $locales = [...$input->all('language', 'l'), ...$input->arguments] ?: ['en_US'];
        foreach ($locales as $locale) {
            if (!preg_match('~^[a-z]{2,3}(_[A-Z][a-z]{3})?_[A-Z]{2}$~', $locale)) {
                throw new Refusal("$locale is no language: one is written as en_US is");
            }
        }
        if (!$input->has('no-html-minify')) {
            $this->minifyTemplates();
        }
        $hashes = [];
        foreach ($this->themes($input->all('theme', 't') ?: array_column($this->configuration->need('themes'), 'theme_path')) as $theme) {
            foreach ($locales as $locale) {
                $hashes += $this->deploy($theme, $locale);
            }
        }
        Folder::write("{$this->modules->root}/pub/static/frontend/sri-hashes.json", json_encode($hashes, JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
        $version = $input->all('content-version')[0] ?? (string) time();
        if (!preg_match('~^[A-Za-z0-9._-]+$~', $version)) {
            throw new Refusal("--content-version $version: it becomes a part of an address, so letters, digits and . _ - only");
        }
        Folder::write("{$this->modules->root}/pub/static/deployed_version.txt", $version);
        return 0;
    }

    /** Each template of a module, without the white space between its tags; a page would make it when it first needs it. */
    private function minifyTemplates(): void
    {
        foreach ($this->modules->folders() as $module => $folder) {
            foreach (Folder::files("$folder/view/frontend/templates") as $file) {
                $path = "{$this->modules->root}/var/view_preprocessed/$module/" . basename($file);
                Folder::write($path, (string) preg_replace('~>\s+<~', '> <', (string) file_get_contents($file)));
            }
        }
    }

    /**
     * @param list<string> $names
     * @return array<string, Theme> by name; the parents of each before it
     */
    private function themes(array $names): array
    {
        $themes = [];
        foreach ($names as $name) {
            $theme = Theme::named($name, $this->configuration);
            $themes += $this->themes($theme->parent === null ? [] : [$theme->parent]) + [$name => $theme];
        }
        return $themes;
    }

    /** @return array<string, string> */
    private function deploy(Theme $theme, string $locale): array
    {
        $started = microtime(true);
        $target = "{$this->modules->root}/pub/static/frontend/$theme->name/$locale";
        Folder::remove($target);
        $phrases = [];
        $files = $this->files($theme, $locale);
        foreach ($files as $path => $file) {
            $text = (string) file_get_contents($file);
            $kind = pathinfo($path, PATHINFO_EXTENSION);
            if ($kind === 'less') {
                // only the sheets at the top are pages' own; the others are imported by them
                if (dirname($path) !== 'css') {
                    continue;
                }
                [$path, $text] = [substr($path, 0, -4) . 'css', (new Stylesheet(fn (string $name, bool $all): array => $this->source($files, $name, $all)))->compile($path)];
            } elseif ($kind === 'js') {
                $phrases = [...$phrases, ...Script::phrases($text)];
                $text = Script::minify($text);
            }
            Folder::write("$target/$path", $text);
        }
        $dictionary = array_intersect_key(Translation::of($this->modules, $theme, $locale), array_flip($phrases));
        Folder::write("$target/js-translation.json", json_encode((object) $dictionary, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
        printf("frontend/%s/%s: %d files, %.1f s\n", $theme->name, $locale, count(Folder::files($target)), microtime(true) - $started);
        return $this->hashes($target);
    }

    /** @return array<string, string> path below pub/static => the digest to which a browser may hold it */
    private function hashes(string $folder): array
    {
        $hashes = [];
        $all = new \RecursiveIteratorIterator(new \RecursiveDirectoryIterator($folder, \FilesystemIterator::SKIP_DOTS));
        foreach ($all as $file) {
            $hashes[substr($file->getPathname(), strlen($this->modules->root) + 12)] = 'sha256-' . base64_encode((string) hash_file('sha256', $file->getPathname(), true));
        }
        return $hashes;
    }

    /** @return array<string, string> path in the deployed folder => the file that wins for it */
    private function files(Theme $theme, string $locale): array
    {
        $files = [];
        $add = static function (string $folder, string $prefix) use (&$files): void {
            foreach (Folder::files($folder) as $file) {
                $files[$prefix . substr($file, strlen($folder) + 1)] = $file;
            }
        };
        foreach ($this->modules->folders() as $module => $folder) {
            $add("$folder/view/frontend/web", "$module/");
        }
        foreach (array_reverse($theme->folders) as $folder) {
            foreach (array_keys($this->modules->folders()) as $module) {
                $add("$folder/$module/web", "$module/");
            }
            $add("$folder/web", '');
            $add("$folder/web/i18n/$locale", '');
        }
        ksort($files);
        return array_filter($files, static fn (string $path): bool => !str_starts_with($path, 'i18n/'), ARRAY_FILTER_USE_KEY);
    }

    /**
     * @param array<string, string> $files
     * @return array<string, string> file as a person knows it => its text
     */
    private function source(array $files, string $name, bool $modules): array
    {
        $name .= str_ends_with($name, '.less') ? '' : '.less';
        $name = str_starts_with($name, 'css/') ? $name : "css/$name";
        $paths = $modules ? array_map(static fn (string $module): string => "$module/$name", array_keys($this->modules->folders())) : [$name];
        $sources = [];
        foreach (array_filter($paths, static fn (string $path): bool => isset($files[$path])) as $path) {
            $sources[substr($files[$path], strlen($this->modules->root) + 1)] = (string) file_get_contents($files[$path]);
        }
        return $sources || $modules ? $sources : throw new Refusal("$name is imported, but neither the theme nor its parents have it");
    }
}
