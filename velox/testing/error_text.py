"""Transaction errors in the words of a validator."""

from __future__ import annotations

from typing import Any

__all__ = ["describe", "simulation_failed"]

# The messages of Agave's TransactionError and InstructionError. Other errors are called by their
# names.
_WORDS = {
    "AccountInUse": "Account in use",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "WouldExceedMaxBlockCostLimit": "Transaction would exceed max Block Cost Limit",
}
_INSTRUCTION_WORDS = {
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "IncorrectProgramId": "incorrect program id for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "InvalidAccountData": "invalid account data for instruction",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "MissingRequiredSignature": "missing required signature for instruction",
    "ProgramFailedToComplete": "Program failed to complete",
    "UninitializedAccount": "instruction requires an initialized account",
}


def describe(err: Any) -> str:
    """Return the message of a transaction's error, which is given as JSON-RPC encodes it."""
    if isinstance(err, str):
        return _WORDS.get(err, err)
    ((name, value),) = err.items()
    if name == "InstructionError":
        index, inner = value
        if isinstance(inner, str):
            text = _INSTRUCTION_WORDS.get(inner, inner)
        else:
            ((inner_name, code),) = inner.items()
            text = f"custom program error: {code:#x}" if inner_name == "Custom" else inner_name
        return f"Error processing Instruction {index}: {text}"
    if name == "InsufficientFundsForRent":
        index = value["account_index"]
        return f"Transaction results in an account ({index}) with insufficient funds for rent"
    return str(name)


def simulation_failed(err: Any) -> str:
    """Return the message of a failed preflight."""
    return f"Transaction simulation failed: {describe(err)}"
