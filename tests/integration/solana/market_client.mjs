// What Manifest's own client reads and does on the local market. Arguments: RPC URL, websocket URL,
// market, base mint, quote mint, the trader's seed in hexadecimal. Prints one JSON object.
import { createRequire } from 'node:module';
const require = createRequire(process.cwd() + '/');
const web3 = require('@solana/web3.js');
const sdk = require('@cks-systems/manifest-sdk');

const [url, wsEndpoint, market, base, quote, seed] = process.argv.slice(2);
const connection = new web3.Connection(url, { commitment: 'confirmed', wsEndpoint });
const key = (text) => new web3.PublicKey(text);
const trader = web3.Keypair.fromSeed(Buffer.from(seed, 'hex'));
const found = {};

found.listed = (await sdk.ManifestClient.listMarketPublicKeys(connection)).map(String);
found.byMints = (await sdk.Market.findByMints(connection, key(base), key(quote))).map((each) => String(each.address));
const read = await sdk.Market.loadFromAddress({ connection, address: key(market) });
found.decimals = [read.baseDecimals(), read.quoteDecimals()];
found.bids = read.bids().length;
found.asks = read.asks().length;
found.spread = read.bestAskPrice() - read.bestBidPrice();
found.hasSeat = read.hasSeat(trader.publicKey);

const client = await sdk.ManifestClient.getClientReadOnly(connection, key(market), trader.publicKey);
const own = () => read.openOrders().filter((each) => String(each.trader) === String(trader.publicKey));
found.open = own().length;
found.balances = client.market.getBalances(trader.publicKey);
// Its generated builders speak to the market alone; its other methods go through the wrapper program.
const cancel = sdk.createBatchUpdateInstruction(
  { payer: trader.publicKey, market: key(market) },
  {
    params: {
      traderIndexHint: null,
      cancels: own().map((each) => ({ orderSequenceNumber: each.sequenceNumber, orderIndexHint: null })),
      orders: [],
    },
  },
);
await web3.sendAndConfirmTransaction(connection, new web3.Transaction().add(cancel), [trader]);
await read.reload(connection);
found.left = own().length;

const before = (await connection.getTokenAccountBalance(sdk.getVaultAddress(key(market), key(base)))).value.amount;
const setup = await sdk.ManifestClient.getSetupIxs(connection, key(market), trader.publicKey);
found.setupNeeded = setup.setupNeeded;
found.vault = before;
console.log(JSON.stringify(found));
process.exit(0);
