// What a program that uses @solana/web3.js asks a local validator. Arguments: RPC URL, websocket URL,
// a mint, its token account, that account's owner. Prints one JSON object.
import { createRequire } from 'node:module';
const require = createRequire(process.cwd() + '/');
const web3 = require('@solana/web3.js');

const [url, wsEndpoint, mint, holder, owner] = process.argv.slice(2);
const connection = new web3.Connection(url, { commitment: 'confirmed', wsEndpoint });
const key = (text) => new web3.PublicKey(text);
const TOKEN = key('TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA');
const found = {};

const payer = web3.Keypair.generate();
const receiver = web3.Keypair.generate().publicKey;
const heard = { account: [], logs: [], program: [], slots: [] };
const ids = [
  connection.onAccountChange(receiver, (account) => heard.account.push(account.lamports)),
  connection.onProgramAccountChange(
    web3.SystemProgram.programId,
    (each) => heard.program.push(each.accountId.toBase58()),
  ),
];
const updates = new Set();
const updater = connection.onSlotUpdate((each) => updates.add(each.type));
const logs = connection.onLogs(receiver, (each) => heard.logs.push(each.signature));
const slots = connection.onSlotChange((each) => heard.slots.push(each.slot));
await new Promise((resolve) => {
  const timer = setInterval(() => {
    if (heard.slots.length > 0 && updates.size === 6) { clearInterval(timer); resolve(); }
  }, 5);
});

const airdrop = await connection.requestAirdrop(payer.publicKey, 2 * web3.LAMPORTS_PER_SOL);
await connection.confirmTransaction({ signature: airdrop, ...(await connection.getLatestBlockhash()) });
found.airdropped = await connection.getBalance(payer.publicKey);

const transaction = new web3.Transaction().add(
  web3.ComputeBudgetProgram.setComputeUnitPrice({ microLamports: 7 }),
  web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: receiver, lamports: 5_000_000 }),
);
found.rent = await connection.getMinimumBalanceForRentExemption(0);
const signature = await web3.sendAndConfirmTransaction(connection, transaction, [payer]);
found.signature = signature;
found.received = await connection.getBalance(receiver);
const parsed = await connection.getParsedTransaction(signature, { maxSupportedTransactionVersion: 0 });
found.programs = parsed.transaction.message.instructions.map((each) => each.programId.toBase58());
const whole = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
found.fee = whole.meta.fee;
found.signatures = (await connection.getSignaturesForAddress(receiver)).map((each) => each.signature);
const block = await connection.getBlock(whole.slot, { maxSupportedTransactionVersion: 0 });
found.block = block.transactions.map((each) => each.transaction.signatures[0]);
found.blockTime = await connection.getBlockTime(whole.slot);
found.fees = Math.max(
  ...(await connection.getRecentPrioritizationFees({ lockedWritableAccounts: [receiver] })).map(
    (each) => each.prioritizationFee,
  ),
);

found.tokenBalance = (await connection.getTokenAccountBalance(key(holder))).value.uiAmountString;
found.tokenSupply = (await connection.getTokenSupply(key(mint))).value.amount;
found.byOwner = (
  await connection.getParsedTokenAccountsByOwner(key(owner), { programId: TOKEN })
).value.map((each) => [each.pubkey.toBase58(), each.account.data.parsed.info.tokenAmount.amount]);
found.largest = (await connection.getTokenLargestAccounts(key(mint))).value.map((each) => each.amount);
found.programAccounts = (
  await connection.getProgramAccounts(TOKEN, {
    filters: [{ dataSize: 165 }, { memcmp: { offset: 0, bytes: mint } }],
  })
).map((each) => each.pubkey.toBase58());
found.parsedMint = (await connection.getParsedAccountInfo(key(mint))).value.data.parsed.info.decimals;
found.epoch = (await connection.getEpochInfo()).slotsInEpoch;
found.version = (await connection.getVersion())['solana-core'];
found.nodes = (await connection.getClusterNodes()).length;
found.voters = (await connection.getVoteAccounts()).current;
found.supply = (await connection.getSupply()).value.total;
found.richest = (await connection.getLargestAccounts()).value[0].lamports;
const production = await connection.getBlockProduction();
found.produced = Object.values(production.value.byIdentity)[0];
// It asks again for ever if a refusal of a subscription is not an error.
found.refused = await connection
  ._rpcRequest('getStakeActivation', [mint])
  .then((answer) => answer.error.code);

for (const id of ids) {
  await (id === ids[0]
    ? connection.removeAccountChangeListener(id)
    : connection.removeProgramAccountChangeListener(id));
}
await connection.removeOnLogsListener(logs);
await connection.removeSlotChangeListener(slots);
await connection.removeSlotUpdateListener(updater);
heard.updates = [...updates].sort();
heard.program = heard.program.includes(receiver.toBase58());
heard.slots = heard.slots.length > 0;
console.log(JSON.stringify({ ...found, heard }));
process.exit(0);
