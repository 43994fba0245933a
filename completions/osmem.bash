# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Completion of osmem(1) for bash: the command's own words here, those of the
# program that it runs by the program's own completion, if bash-completion is
# loaded.
#
# Readline splits words at "=", so words are put together again before they
# are looked at, and what is answered is the part behind the last "=".

# _osmem_options OPTIONS LEAD: key=value,key=value, in a word that starts with
# LEAD, which is "-o" or nothing.
_osmem_options()
{
	local key candidates candidate typed='' before=$2
	local last=${1##*,}

	[[ $1 == *,* ]] && before+=${1%,*},
	if [[ $last == *=* ]]; then
		key=${last%%=*}
		before+=$key=
		last=${last#*=}
		case $key in
		mode) candidates='exact auto fast' ;;
		die | warn | sites | deepbind | purger) candidates='0 1' ;;
		harden) candidates='0 1 2' ;;
		break) candidates='auto always never' ;;
		stats) candidates='no exit' ;;
		foreign) candidates='abort warn ignore' ;;
		fail)
			candidates='no nth: every: p='
			compopt -o nospace 2>/dev/null ;;
		*) return ;;
		esac
	else
		candidates='mode= die= warn= break= check= stats='
		candidates+=' hot_after= grow_after= cache_after='
		candidates+=' foreign= sites= harden= fail= deepbind= purger='
		candidates+=' help'
		compopt -o nospace 2>/dev/null
	fi
	[[ $COMP_WORDBREAKS == *=* && $1 == *=* ]] && typed=$2${1%=*}=
	for candidate in $candidates; do
		[[ $candidate == "$last"* ]] || continue
		candidate=$before$candidate
		COMPREPLY+=("${candidate#"$typed"}")
	done
}

# _osmem_program N: what osmem runs, and its arguments, from COMP_WORDS[N] on.
_osmem_program()
{
	if declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	elif ((COMP_CWORD == $1)); then
		mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[$1]}")
	else
		compopt -o default 2>/dev/null
	fi
}

# Behind "osmem run" or "torture", with words and first of _osmem.
_osmem_run()
{
	local i=2 last=$((${#words[@]} - 1))
	local cur=${words[last]} options='-o --stats --'

	[[ ${words[1]} == run ]] ||
		options='-o --from --to --timeout --verbose --'
	while ((i < last)); do
		case ${words[i]} in
		-o)
			if ((++i == last)); then
				_osmem_options "$cur" ''
				return
			fi ;;
		--from | --to | --timeout)
			((++i == last)) && return ;;
		--)
			((i++))
			break ;;
		-*) ;;
		*) break ;;
		esac
		((i++))
	done
	if ((i < last)) || [[ ${words[i - 1]} == -- ]]; then
		_osmem_program "${first[i]}"
		return
	fi
	case $cur in
	-o?*) _osmem_options "${cur#-o}" -o ;;
	-*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
	*) _osmem_program "${first[last]}" ;;
	esac
}

_osmem()
{
	local i word rest=$COMP_LINE
	# The words as the shell will see them, and where each starts in
	# COMP_WORDS.
	local -a words first

	COMPREPLY=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
			rest=${rest#"${rest%%[![:space:]]*}"}
			words+=("$word")
			first+=("$i")
		else
			words[${#words[@]} - 1]+=$word
		fi
		rest=${rest#"$word"}
	done
	if ((${#words[@]} == 2)); then
		mapfile -t COMPREPLY < <(compgen \
			-W 'run torture doctor --version --help' \
			-- "${words[1]}")
	elif [[ ${words[1]} == run || ${words[1]} == torture ]]; then
		_osmem_run
	fi
}

complete -F _osmem osmem
