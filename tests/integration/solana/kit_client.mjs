// What a program that uses @solana/kit asks a local validator. Arguments as those of web3_client.mjs.
import { createRequire } from 'node:module';
const require = createRequire(process.cwd() + '/');
const kit = require('@solana/kit');

const [url, wsEndpoint, mint, holder, owner] = process.argv.slice(2);
const rpc = kit.createSolanaRpc(url);
const rpcSubscriptions = kit.createSolanaRpcSubscriptions(wsEndpoint);
const TOKEN = 'TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA';
const found = {};

const payer = await kit.generateKeyPairSigner();
const abort = new AbortController();
const slots = await rpcSubscriptions.slotNotifications().subscribe({ abortSignal: abort.signal });
for await (const each of slots) { found.slot = each.slot > 0n; break; }
const blocks = await rpcSubscriptions
  .blockNotifications('all', {
    commitment: 'confirmed', encoding: 'base64', transactionDetails: 'full',
    maxSupportedTransactionVersion: 0, showRewards: false,
  })
  .subscribe({ abortSignal: abort.signal });
for await (const each of blocks) { found.block = each.value.block.blockhash.length > 30; break; }
const updates = await rpcSubscriptions
  .slotsUpdatesNotifications()
  .subscribe({ abortSignal: abort.signal });
for await (const each of updates) { found.update = typeof each.type; break; }
const accounts = await rpcSubscriptions
  .accountNotifications(payer.address, { commitment: 'confirmed', encoding: 'base64' })
  .subscribe({ abortSignal: abort.signal });
// An iterator of kit drops what comes before it is asked for the next value.
const heard = accounts[Symbol.asyncIterator]().next();

const airdrop = kit.airdropFactory({ rpc, rpcSubscriptions });
await airdrop({
  recipientAddress: payer.address,
  lamports: kit.lamports(2_000_000_000n),
  commitment: 'confirmed',
});
found.heard = String((await heard).value.value.lamports);
found.airdropped = String((await rpc.getBalance(payer.address).send()).value);

const send = kit.sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions });
const { value: latest } = await rpc.getLatestBlockhash().send();
const message = kit.pipe(
  kit.createTransactionMessage({ version: 0 }),
  (each) => kit.setTransactionMessageFeePayerSigner(payer, each),
  (each) => kit.setTransactionMessageLifetimeUsingBlockhash(latest, each),
  (each) =>
    kit.appendTransactionMessageInstruction(
      {
        programAddress: 'MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr',
        data: new TextEncoder().encode('from kit'),
      },
      each,
    ),
);
const signed = await kit.signTransactionMessageWithSigners(message);
await send(signed, { commitment: 'confirmed' });
const signature = kit.getSignatureFromTransaction(signed);
found.signature = signature;
const read = await rpc
  .getTransaction(signature, { maxSupportedTransactionVersion: 0, encoding: 'json', commitment: 'confirmed' })
  .send();
found.logs = read.meta.logMessages;
found.signatures = (
  await rpc.getSignaturesForAddress(payer.address, { commitment: 'confirmed' }).send()
).length;
found.tokenBalance = (await rpc.getTokenAccountBalance(holder).send()).value.uiAmountString;
found.byOwner = (
  await rpc.getTokenAccountsByOwner(owner, { mint }, { encoding: 'jsonParsed' }).send()
).value.map((each) => [each.pubkey, each.account.data.parsed.info.tokenAmount.amount]);
found.programAccounts = (
  await rpc
    .getProgramAccounts(TOKEN, {
      encoding: 'base64',
      filters: [{ dataSize: 165n }, { memcmp: { offset: 0n, bytes: mint, encoding: 'base58' } }],
    })
    .send()
).map((each) => each.pubkey);
found.multiple = (await rpc.getMultipleAccounts([mint, holder], { encoding: 'base64' }).send()).value.length;
found.rent = String(await rpc.getMinimumBalanceForRentExemption(165n).send());
found.compressed = (
  await rpc.getAccountInfo(holder, { encoding: 'base64+zstd' }).send()
).value.data[1];
found.epoch = String((await rpc.getEpochSchedule().send()).slotsPerEpoch);
found.supply = String((await rpc.getSupply().send()).value.total);
found.production = (await rpc.getBlockProduction().send()).value.range.lastSlot > 0n;
abort.abort();
console.log(JSON.stringify(found));
process.exit(0);
