<?php

declare(strict_types=1);

namespace MSwoole;

/** Whether a request comes from Carillon. */
final class Signature
{
    /** Seconds by which a request's time may differ from ours; one that was recorded can't be sent again later. */
    private const TOLERANCE = 300;

    public static function fits(string $secret, string $body, string $timestamp, string $signature): bool
    {
        if ($secret === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > self::TOLERANCE) {
            return false;
        }
        return hash_equals('v1=' . hash_hmac('sha256', "$timestamp.$body", $secret), $signature);
    }
}
