<?php

declare(strict_types=1);

namespace Shop\Framework;

/** A mail in text and HTML with a file, handed to the host's sendmail as PHP does it, unless `system/smtp/disable` says that none is sent. */
final class Mail
{
    public function __construct(private readonly Configuration $configuration, private readonly Log $log)
    {
    }

    /** A mail that nobody takes is logged: what it is about has happened. */
    public function send(string $store, string $from, string $to, string $copy, string $subject, string $text, string $html, string $name, string $file): bool
    {
        if ($this->configuration->ofStore($store, 'system/smtp/disable') === '1') {
            return false;
        }
        [$mixed, $either] = [bin2hex(random_bytes(12)), bin2hex(random_bytes(12))];
        $part = static fn (string $boundary, string $type, string $content, string $more = ''): string =>
            "--$boundary\r\nContent-Type: $type\r\nContent-Transfer-Encoding: base64\r\n$more\r\n" . chunk_split(base64_encode($content));
        $body = "--$mixed\r\nContent-Type: multipart/alternative; boundary=\"$either\"\r\n\r\n"
            . $part($either, 'text/plain; charset=utf-8', $text)
            . $part($either, 'text/html; charset=utf-8', $html)
            . "--$either--\r\n"
            . $part($mixed, 'text/plain; charset=utf-8', $file, "Content-Disposition: attachment; filename=\"$name\"\r\n")
            . "--$mixed--\r\n";
        $headers = ['From' => $from, 'Bcc' => $copy, 'MIME-Version' => '1.0', 'Content-Type' => "multipart/mixed; boundary=\"$mixed\""];
        $sent = mail($to, mb_encode_mimeheader($subject, 'UTF-8'), $body, $headers);
        if (!$sent) {
            $this->log->write('exception', "Unable to send mail to $to: " . (error_get_last()['message'] ?? 'sendmail failed'));
        }
        return $sent;
    }
}
