// Node's clients in typical use: callers.mjs CLIENT METHOD URL, or fetch-upload URL BYTES TRIES.
//
// A client prints its version and its final result; an upload prints the result of each try.

import { readFileSync } from 'node:fs';

const version = (name) =>
    JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

const clients = {
    async got(method, url) {
        const { got } = await import('got');
        return (await got(url, { method, throwHttpErrors: false })).statusCode;
    },

    async ky(method, url) {
        const { default: ky, HTTPError } = await import('ky');
        try {
            return (await ky(url, { method, timeout: false })).status;
        } catch (error) {
            // With `throwHttpErrors: false`, ky would not retry.
            return error instanceof HTTPError ? error.response.status : error.message;
        }
    },

    async undici(method, url) {
        const { Agent, RetryAgent, request } = await import('undici');
        const dispatcher = new RetryAgent(new Agent(), { statusCodes: [429] });
        try {
            return (await request(url, { method, dispatcher })).statusCode;
        } catch (error) {
            return error.statusCode ?? error.code;
        }
    },

    async '@grpc/grpc-js'(_, url) {
        const { default: grpc } = await import('@grpc/grpc-js');
        const retryPolicy = {
            maxAttempts: 5,
            initialBackoff: '0.1s',
            maxBackoff: '0.1s',
            backoffMultiplier: 1,
            retryableStatusCodes: ['RESOURCE_EXHAUSTED'],
        };
        const client = new grpc.Client(url.replace('http://', ''), grpc.credentials.createInsecure(), {
            'grpc.service_config': JSON.stringify({ methodConfig: [{ name: [{}], retryPolicy }] }),
        });
        // Bytes in and bytes out: an empty message needs no generated code.
        const same = (bytes) => bytes;
        const deadline = Date.now() + 60_000;
        return new Promise((resolve) => {
            client.makeUnaryRequest(
                '/grpc.health.v1.Health/Check', same, same, Buffer.alloc(0), new grpc.Metadata(), { deadline },
                (error) => resolve(error ? grpc.status[error.code] : 'OK'),
            );
        });
    },
};

const [client, ...args] = process.argv.slice(2);
if (client === 'fetch-upload') {
    const [url, bytes, tries] = args;
    const body = Buffer.alloc(Number(bytes));
    for (let nth = 0; nth < tries; nth++) {
        try {
            const response = await fetch(url, { method: 'POST', body });
            await response.text();
            console.log(response.status);
        } catch (error) {
            console.log(error.cause?.code ?? error.message);
        }
    }
} else {
    console.log(version(client), await clients[client](...args));
}
process.exit();
