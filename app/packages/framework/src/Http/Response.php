<?php

declare(strict_types=1);

namespace Shop\Framework\Http;

/** What is answered: nobody may keep it, unless it says so. */
final class Response
{
    /** @param array<string, string> $headers */
    private function __construct(public readonly int $status, public readonly string $body, public readonly array $headers)
    {
    }

    public static function page(string $html, int $status = 200): self
    {
        return new self($status, $html, [
            'Content-Type' => 'text/html; charset=utf-8',
            'Cache-Control' => 'private, no-store',
            'X-Content-Type-Options' => 'nosniff',
            'X-Frame-Options' => 'SAMEORIGIN',
        ]);
    }

    public static function text(int $status, string $text): self
    {
        return new self($status, "$text\n", ['Content-Type' => 'text/plain; charset=utf-8', 'Cache-Control' => 'no-store']);
    }

    /** @param array<string, mixed> $value */
    public static function json(array $value, int $status = 200): self
    {
        return new self($status, json_encode($value, JSON_THROW_ON_ERROR | JSON_PRETTY_PRINT) . "\n", ['Content-Type' => 'application/json', 'Cache-Control' => 'no-store']);
    }

    public static function redirect(string $url, int $status = 303): self
    {
        return new self($status, '', ['Location' => $url, 'Cache-Control' => 'private, no-store']);
    }

    /** @param list<string> $tags by which the page cache can be asked to forget the page */
    public function cacheable(int $seconds, array $tags): self
    {
        return new self($this->status, $this->body, ['Cache-Control' => "public, max-age=0, s-maxage=$seconds", 'X-Magento-Tags' => implode(',', $tags)] + $this->headers);
    }

    /** The same for nobody else. */
    public function uncached(): self
    {
        return new self($this->status, $this->body, ['Cache-Control' => 'private, no-store'] + array_diff_key($this->headers, ['X-Magento-Tags' => 0]));
    }

    public function with(string $header, string $value): self
    {
        return new self($this->status, $this->body, [$header => $value] + $this->headers);
    }

    public function send(): void
    {
        http_response_code($this->status);
        foreach ($this->headers as $name => $value) {
            header("$name: $value");
        }
        echo $this->body;
    }
}
