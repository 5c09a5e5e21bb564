// `retort generate --chat`: a conversation on the terminal.
#pragma once
#include <string>

#include "base/error.h"
#include "generate/conversation.h"

namespace retort {

// Reads messages from standard input until it ends or /exit. Ctrl-C stops an answer; SIGTERM leaves with
// Exit::stopped.
Exit chat(Conversation& conversation, const std::string& system);

}  // namespace retort
