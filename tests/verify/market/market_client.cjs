// Puts questions of tests/verify/market/test_client.py to Manifest's own TypeScript client:
// a question in JSON on each line of stdin, its answer on a line of stdout. Integers of 64 bits and
// more are strings, bytes are hexadecimal.
'use strict';
const { createRequire } = require('node:module');
const { join } = require('node:path');
const load = createRequire(join(process.argv[2], 'node_modules', 'question.cjs'));
const { PublicKey } = load('@solana/web3.js');
const BN = load('bn.js');
const client = load('@cks-systems/manifest-sdk');

const key = (hex) => new PublicKey(Buffer.from(hex, 'hex'));
const hex = (each) => each.toBuffer().toString('hex');
const shown = (instruction) => ({
  program: hex(instruction.programId),
  data: instruction.data.toString('hex'),
  accounts: instruction.keys.map((each) => [hex(each.pubkey), each.isSigner, each.isWritable]),
});
const market = ({ address, data, slot }) => client.Market.loadFromBuffer({
  address: key(address), buffer: Buffer.from(data, 'hex'), slot,
});
const order = (each) => ({
  sequence: each.sequenceNumber.toString(),
  atoms: each.numBaseAtoms.toString(),
  trader: hex(each.trader),
  type: each.orderType,
  price: each.tokenPrice,
});
// A client over an account that was read before: no connection is asked for anything.
const over = (question) => new client.ManifestClient(
  null, null, market(question), key(question.payer),
  { address: key(question.base), tlvData: Buffer.alloc(0) },
  { address: key(question.quote), tlvData: Buffer.alloc(0) }, null, null,
);

const answers = {
  read: (question) => {
    const read = market(question);
    return {
      mints: [hex(read.baseMint()), hex(read.quoteMint())],
      decimals: [read.baseDecimals(), read.quoteDecimals()],
      bids: read.bids().map(order),
      asks: read.asks().map(order),
      best: [read.bestBidPrice() ?? null, read.bestAskPrice() ?? null],
      seats: read.claimedSeats().map((each) => [
        hex(each.publicKey), each.baseBalance.toString(), each.quoteBalance.toString(),
      ]),
      volume: read.quoteVolume().toString(),
    };
  },
  create: ({ payer, address, base, quote }) => shown(
    client.ManifestClient.createMarketIx(key(payer), key(base), key(quote), key(address)),
  ),
  seat: ({ payer, address }) => shown(
    client.createClaimSeatInstruction({ payer: key(payer), market: key(address) }),
  ),
  expand: ({ payer, address }) => shown(
    client.createExpandInstruction({ payer: key(payer), market: key(address) }),
  ),
  batch: ({ payer, address, cancels, places }) => shown(client.createBatchUpdateInstruction(
    { payer: key(payer), market: key(address) },
    {
      params: {
        traderIndexHint: null,
        cancels: cancels.map(([number, at]) => ({
          orderSequenceNumber: new BN(number), orderIndexHint: at,
        })),
        orders: places.map(([atoms, mantissa, exponent, isBid, slot, type]) => ({
          baseAtoms: new BN(atoms), priceMantissa: mantissa, priceExponent: exponent,
          isBid, lastValidSlot: slot, orderType: type,
        })),
      },
    },
  )),
  swap: (question) => shown(over(question).swapIx(key(question.payer), {
    inAtoms: new BN(question.in), outAtoms: new BN(question.out),
    isBaseIn: question.baseIn, isExactIn: question.exactIn,
  })),
  cancelAll: async (question) => (await over(question).cancelAllOnCoreIx()).map(shown),
  cancelBids: async (question) => (await over(question).cancelBidsOnCoreIx()).map(shown),
};

const { createInterface } = require('node:readline');
(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const { ask, ...rest } = JSON.parse(line);
    process.stdout.write(`${JSON.stringify(await answers[ask](rest))}\n`);
  }
})();
