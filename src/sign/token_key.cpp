// Engines are deprecated since OpenSSL 3.0; Debian 12, which has that, has no provider for PKCS#11.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "sign/token_key.h"

#include <link.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#ifndef OPENSSL_NO_ENGINE
#include <openssl/engine.h>
#endif

#include <algorithm>
#include <cstdlib>

#include "base/files.h"
#include "sign/openssl.h"

namespace retort {

namespace {

constexpr std::string_view kScheme = "pkcs11:";
constexpr size_t kLargestPinFile = 4096;

[[noreturn]] void wrong_uri(std::string_view problem) {
  throw RecipeError(fmt::format("--key pkcs11: {}; expected pkcs11:token=NAME;object=NAME", problem) +
                    "?module-path=/usr/lib/.../libNAME.so&pin-source=/path/to/file");
}

int digit_of(char c) {
  const auto place = std::string_view("0123456789abcdefABCDEF").find(c);
  return place == std::string_view::npos ? -1 : static_cast<int>(place < 16 ? place : place - 6);
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? digit_of(text[i + 1]) : -1;
    const int low = high >= 0 ? digit_of(text[i + 2]) : -1;
    if (low < 0) wrong_uri("a '%' without two hexadecimal digits behind it");
    out += static_cast<char>(16 * high + low);
    i += 2;
  }
  return out;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return out;
}

// Calls each(name, value) for "name=value;name=value".
template <class Each> void each_attribute(std::string_view text, char separator, Each each) {
  while (!text.empty()) {
    const auto one = text.substr(0, text.find(separator));
    const auto equals = one.find('=');
    if (equals == std::string_view::npos || equals == 0) wrong_uri("a part that is not name=value");
    each(one.substr(0, equals), one.substr(equals + 1));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
  }
}

// The first line: libp11 takes the line's end as a part of the PIN.
std::string pin_in(const std::string& source) {
  if (source.starts_with("|")) wrong_uri("pin-source names a program, which is not started; name a file");
  auto path = source.starts_with("file:") ? source.substr(5) : source;
  if (path.starts_with("//")) path.erase(0, 2);  // file:///path
  const auto text = read_text(path, kLargestPinFile);
  return text.substr(0, text.find_first_of("\r\n"));
}

// Tokens lock themselves after a few wrong PINs, so that none is guessed, and none is asked for.
int no_pin(UI*, UI_STRING*) { return 0; }
UI_METHOD* asks_nobody() {
  static UI_METHOD* const method = [] {
    auto* made = UI_create_method("asks nobody");
    UI_method_set_reader(made, no_pin);
    return made;
  }();
  return method;
}

// What one of two ways to a token gave.
struct Found {
  bool installed = false;
  EVP_PKEY* key = nullptr;
  std::string reason = {};
};

Found by_provider(const TokenUri& uri) {
  // Both are kept for as long as the program runs.
  if (!uri.module.empty()) ::setenv("PKCS11_PROVIDER_MODULE", uri.module.c_str(), 1);
  UI_set_default_method(asks_nobody());  // the provider asks by itself
  OSSL_PROVIDER_try_load(nullptr, "default", 1);
  if (!OSSL_PROVIDER_try_load(nullptr, "pkcs11", 1)) return {};
  ERR_clear_error();
  Found found{.installed = true};
  auto name = uri.object;
  if (uri.pin) name += "?pin-value=" + escaped(*uri.pin);
  auto* store = OSSL_STORE_open(name.c_str(), asks_nobody(), nullptr, nullptr, nullptr);
  if (store) OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
  while (store && !found.key && !OSSL_STORE_eof(store)) {
    auto* info = OSSL_STORE_load(store);
    if (!info) break;
    found.key = OSSL_STORE_INFO_get1_PKEY(info);
    OSSL_STORE_INFO_free(info);
  }
  OSSL_STORE_close(store);
  found.reason = openssl_reason();
  return found;
}

#ifdef OPENSSL_NO_ENGINE
Found by_engine(const TokenUri&) { return {}; }
#else
Found by_engine(const TokenUri& uri) {
  ENGINE_load_dynamic();
  auto* engine = ENGINE_by_id("pkcs11");
  if (!engine) return {};
  ERR_clear_error();
  Found found{.installed = true};
  const auto set = [&](const char* name, const char* value) {
    return ENGINE_ctrl_cmd_string(engine, name, value, 0) == 1;
  };
  // Never finished: keys and SoftHSM's own use of OpenSSL outlive an order of our own.
  if (set("QUIET", nullptr) && (uri.module.empty() || set("MODULE_PATH", uri.module.c_str())) &&
      (!uri.pin || set("PIN", uri.pin->c_str())) && ENGINE_init(engine) == 1)
    found.key = ENGINE_load_private_key(engine, uri.object.c_str(), asks_nobody(), nullptr);
  found.reason = openssl_reason();
  return found;
}
#endif

// Engines are linked against the machine's libcrypto, and their keys are its own: a program that has another
// one inside of it, as packages do, cannot use them.
bool uses_shared_openssl() {
  const auto is_libcrypto = [](dl_phdr_info* loaded, size_t, void*) {
    return int{std::string_view(loaded->dlpi_name).find("libcrypto.so.") != std::string_view::npos};
  };
  return ::dl_iterate_phdr(is_libcrypto, nullptr) != 0;
}

}  // namespace

bool is_token_uri(std::string_view key) { return key.starts_with(kScheme); }

TokenUri read_token_uri(const std::string& uri) {
  if (!is_token_uri(uri)) wrong_uri("it does not begin with 'pkcs11:'");
  const auto rest = std::string_view(uri).substr(kScheme.size());
  const auto query = std::min(rest.find('?'), rest.size());
  TokenUri found{std::string(kScheme), "", std::nullopt};
  bool names_key = false;
  each_attribute(rest.substr(0, query), ';', [&](std::string_view name, std::string_view value) {
    if (name == "type" || name == "object-type") {
      if (value != "private") wrong_uri("it names something else than a private key");
      return;
    }
    unescaped(value);  // refuses what cannot be read
    names_key |= name == "object" || name == "id";
    found.object += fmt::format("{}={};", name, value);
  });
  if (!names_key) wrong_uri("it names no key of the token");
  found.object += "type=private";
  if (query == rest.size()) return found;
  each_attribute(rest.substr(query + 1), '&', [&](std::string_view name, std::string_view value) {
    if (name == "module-path") found.module = unescaped(value);
    else if (name == "pin-value" || name == "pin-source") {
      if (found.pin) wrong_uri("it has two PINs");
      found.pin = name == "pin-value" ? unescaped(value) : pin_in(unescaped(value));
    } else {
      wrong_uri(fmt::format("{} is not known here", printable(name)));
    }
  });
  return found;
}

EcKey token_key(const std::string& uri) {
  const auto token = read_token_uri(uri);
  const bool shared = uses_shared_openssl();  // before a provider loads it for itself
  auto found = by_provider(token);
  if (!found.installed && shared) found = by_engine(token);
  ERR_clear_error();
  if (!found.installed)
    throw Failure(fmt::format(
        "{}: OpenSSL has no provider{} for PKCS#11 here: apt-get install {}", printable(token.object),
        shared ? " or engine" : "",
        shared
            ? "libengine-pkcs11-openssl (Debian 11 and 12) or pkcs11-provider (from Debian 13 on)"
            : "pkcs11-provider (from Debian 13 on), or build retort-sign on this machine, which then takes "
              "the engine too (libengine-pkcs11-openssl)"));
  if (!found.key)
    throw RecipeError(fmt::format(
        "{}: the token gives no such key{}: is it plugged in, {}{}? `p11tool --list-all` and "
        "`pkcs11-tool -O` list what is there",
        printable(token.object), found.reason.empty() ? "" : " (" + found.reason + ")",
        token.module.empty() ? "its library set up (module-path in the URI names it)"
                             : "module-path its library",
        token.pin ? ", the PIN right" : ", and does it need a PIN (pin-source in the URI names a file)"));
  return EcKey::of_openssl(found.key, token.object);
}

}  // namespace retort
