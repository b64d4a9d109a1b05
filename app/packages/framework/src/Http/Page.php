<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

use Shop\Framework\Cache;
use Shop\Framework\Configuration;
use Shop\Framework\Modules;
use Shop\Framework\Refusal;
use Shop\Framework\Theme;
use Shop\Framework\Translation;

/** The page of a store: its theme's templates, its language, its money, its addresses. */
final class Page
{
    public readonly string $locale;
    private readonly Theme $theme;

    /** @var array<string, string>|null */
    private ?array $phrases = null;

    public function __construct(public readonly string $store, public readonly string $group, private readonly Configuration $configuration, private readonly Modules $modules, private readonly Cache $cache)
    {
        $this->locale = $configuration->ofStore($store, 'general/locale/code');
        $this->theme = Theme::named(substr($configuration->ofStore($store, 'design/theme/theme_id'), strlen('frontend/')), $configuration);
    }

    /** @param array<string, mixed> $values */
    public function render(string $template, array $values = []): string
    {
        $content = $this->template($template, $values);
        return $this->template('Shop_Catalog::page.phtml', ['content' => $content] + $values);
    }

    /** A part of a page, which comes by itself. */
    public function part(string $template): string
    {
        return $this->template($template, []);
    }

    public function text(string $phrase, string ...$values): string
    {
        $this->phrases ??= $this->cache->remember("phrases/$this->store", 3600, fn (): array => Translation::of($this->modules, $this->theme, $this->locale));
        $text = $this->phrases[$phrase] ?? $phrase;
        foreach ($values as $index => $value) {
            $text = str_replace('%' . ($index + 1), $value, $text);
        }
        return htmlspecialchars($text);
    }

    public function price(string $amount): string
    {
        $format = new \NumberFormatter($this->locale, \NumberFormatter::CURRENCY);
        return htmlspecialchars((string) $format->formatCurrency((float) $amount * (Context::GROUPS[$this->group] ?? 1), $this->configuration->ofStore($this->store, 'currency/options/base')));
    }

    public function url(string $path, ?string $store = null): string
    {
        $store ??= $this->store;
        $base = $this->base($store);
        $origin = $base === $this->base($this->store) ? '' : rtrim($base, '/');
        return $origin . ($base === $this->base('default') && $store !== 'default' ? "/$store" : '') . $path;
    }

    public function asset(string $path): string
    {
        $version = trim((string) file_get_contents("{$this->configuration->root}/pub/static/deployed_version.txt"));
        return "/static/version$version/frontend/{$this->theme->name}/$this->locale/$path";
    }

    public function setting(string $path): string
    {
        return htmlspecialchars((string) $this->configuration->ofStore($this->store, $path));
    }

    /** Where a store is: stores of one address are told apart by the path. */
    public function base(string $store): string
    {
        return (string) $this->configuration->ofStore($store, 'web/unsecure/base_url');
    }

    /** @return array<string, string> code => name */
    public function stores(): array
    {
        return array_filter(array_column($this->configuration->need('scopes/stores'), 'name', 'code'), static fn (string $code): bool => $code !== 'admin', ARRAY_FILTER_USE_KEY);
    }

    /** @param array<string, mixed> $values */
    private function template(string $template, array $values): string
    {
        [$module, $name] = explode('::', $template);
        $file = $this->theme->find("$module/templates/$name") ?? "{$this->modules->folders()[$module]}/view/frontend/templates/$name";
        if (!is_file($file)) {
            throw new Refusal("template $template is missing");
        }
        ob_start();
        try {
            (static function (Page $page, string $__file, array $__values): void {
                extract($__values, EXTR_SKIP);
                require $__file;
            })($this, $file, $values);
            return (string) ob_get_contents();
        } finally {
            ob_end_clean();
        }
    }
}
