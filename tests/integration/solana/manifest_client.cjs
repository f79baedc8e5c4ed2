// Answers, with Manifest's own TypeScript client, what tests/integration/solana/test_manifest_client.py asks:
// a JSON array of questions on stdin, an array of answers on stdout. integers of 64 bits and more are strings.
'use strict';
const { createRequire } = require('node:module');
const { join } = require('node:path');
const load = createRequire(join(process.argv[2], 'node_modules', 'question.cjs'));
const { PublicKey } = load('@solana/web3.js');
const BN = load('bn.js');
const client = load('@cks-systems/manifest-sdk');
const { depositParamsBeet } = load('@cks-systems/manifest-sdk/dist/cjs/manifest/types');

const key = (hex) => new PublicKey(Buffer.from(hex, 'hex'));
const price = (value) => ({ inner: new BN(value) });
const padding = (length) => new Array(length).fill(0);

const shown = (instruction) => ({
  program: instruction.programId.toBuffer().toString('hex'),
  data: instruction.data.toString('hex'),
  accounts: instruction.keys.map((each) => [
    each.pubkey.toBuffer().toString('hex'), each.isSigner, each.isWritable,
  ]),
});

const answers = {
  batch_update: ({ payer, market, hint, cancels, places }) =>
    shown(client.createBatchUpdateInstruction(
      { payer: key(payer), market: key(market) },
      {
        params: {
          traderIndexHint: hint,
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
  claim_seat: ({ payer, market }) =>
    shown(client.createClaimSeatInstruction({ payer: key(payer), market: key(market) })),
  create_market: ({ payer, market, base, quote, tokenProgram22 }) =>
    shown(client.createCreateMarketInstruction({
      payer: key(payer), market: key(market), baseMint: key(base), quoteMint: key(quote),
      baseVault: client.getVaultAddress(key(market), key(base)),
      quoteVault: client.getVaultAddress(key(market), key(quote)),
      tokenProgram22: key(tokenProgram22),
    })),
  // The generated instruction repeats the option after its parameters, which the program does not
  // read: its accounts, and the parameters as they are.
  deposit: ({ payer, market, mint, token, atoms }) => {
    const params = { amountAtoms: new BN(atoms), traderIndexHint: null };
    const instruction = client.createDepositInstruction(
      {
        payer: key(payer), market: key(market), traderToken: key(token),
        vault: client.getVaultAddress(key(market), key(mint)), mint: key(mint),
      },
      { params, traderIndexHint: null },
    );
    const [data] = depositParamsBeet.toFixedFromValue(params).serialize(params);
    instruction.data = Buffer.concat([Buffer.of(client.depositInstructionDiscriminator), data]);
    return shown(instruction);
  },
  discriminator: ({ name }) => client.genAccDiscriminator(name).toString('hex'),
  place_log: (log) => client.placeOrderLogBeet.serialize({
    market: key(log.market), trader: key(log.trader), price: price(log.price),
    baseAtoms: { inner: new BN(log.atoms) }, orderSequenceNumber: new BN(log.sequence),
    orderIndex: log.index, lastValidSlot: log.slot, orderType: log.type, isBid: log.bid,
    padding: padding(6),
  })[0].toString('hex'),
  fill_log: (log) => client.fillLogBeet.serialize({
    market: key(log.market), maker: key(log.maker), taker: key(log.taker),
    baseMint: key(log.base), quoteMint: key(log.quote), price: price(log.price),
    baseAtoms: { inner: new BN(log.atoms) }, quoteAtoms: { inner: new BN(log.quoteAtoms) },
    makerSequenceNumber: new BN(log.made), takerSequenceNumber: new BN(log.took),
    takerIsBuy: log.buyer, isMakerGlobal: false, padding: padding(14),
  })[0].toString('hex'),
  market: ({ data }) => {
    const { bids, asks } = client.Market.deserializeMarketBuffer(Buffer.from(data, 'hex'), 0);
    return [...bids, ...asks].map((each) => [
      each.sequenceNumber.toString(), each.numBaseAtoms.toString(),
      each.trader.toBuffer().toString('hex'), each.isBid,
    ]);
  },
  error: ({ code }) => client.errorFromCode(code).name,
  price: ({ tokens, baseDecimals, quoteDecimals }) => {
    const { priceMantissa, priceExponent } =
      client.toMantissaAndExponent(tokens * 10 ** (quoteDecimals - baseDecimals));
    return [priceMantissa, priceExponent];
  },
};

let text = '';
process.stdin.on('data', (chunk) => { text += chunk; });
process.stdin.on('end', () => {
  const told = JSON.parse(text).map(({ ask, ...rest }) => answers[ask](rest));
  process.stdout.write(JSON.stringify(told));
});
