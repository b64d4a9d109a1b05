<?php

declare(strict_types=1);

namespace Shop\Framework\Setup;

use Shop\Framework\Connection;
use Shop\Framework\Console\Command;
use Shop\Framework\Console\Input;
use Shop\Framework\Refusal;

/** security:tfa:google:set-secret USER SECRET: from what an administrator's codes are computed. */
final class SecondFactor extends Command
{
    private const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

    public function __construct(private readonly Connection $connection)
    {
    }

    public function run(Input $input): int
    {
        [$user, $secret] = [...$input->arguments, '', ''];
        if (!preg_match('/^[A-Z2-7]{16,}$/', $secret)) {
            throw new Refusal('security:tfa:google:set-secret USER SECRET: the secret should be base32');
        }
        if (!$this->connection->rows('SELECT 1 FROM admin_user WHERE username = ?', [$user])) {
            throw new Refusal("there is no administrator $user");
        }
        $this->connection->rows('UPDATE admin_user SET otp_secret = ? WHERE username = ?', [$secret, $user]);
        echo "Google OTP secret has been set\n";
        return 0;
    }

    /** The code of six digits for a time, as RFC 6238 has it. */
    public static function code(string $secret, int $time): string
    {
        $bits = implode('', array_map(static fn (string $letter): string => sprintf('%05b', strpos(self::BASE32, $letter)), str_split($secret)));
        $key = implode('', array_map(static fn (string $byte): string => chr((int) bindec($byte)), array_filter(str_split($bits, 8), static fn (string $byte): bool => strlen($byte) === 8)));
        $digest = hash_hmac('sha1', pack('J', intdiv($time, 30)), $key, true);
        $number = unpack('N', substr($digest, ord($digest[19]) & 15, 4))[1] & 0x7fffffff;
        return sprintf('%06d', $number % 1_000_000);
    }
}
